"""What operators see: probes, metrics, debug views."""
