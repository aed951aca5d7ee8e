"""Networks that judge images: Inception, DINOv2 and LPIPS, by weights from a user's files."""
