"""Image-to-image functions on volumes: a `Volume` in, a `Result` out. Knows nothing of networks, SQL or Celery."""
