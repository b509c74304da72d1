"""`fastswitch load compare`: shows runs side by side, with intervals."""
