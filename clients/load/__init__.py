"""`fastswitch load`: drives a server like many users at once and records what each of them sees."""
