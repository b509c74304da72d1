"""What the weights' stored types cost in quality: logits beside float32's, over prose and over reference answers."""
