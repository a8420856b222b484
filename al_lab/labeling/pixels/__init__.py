"""Label maps, points and squares: segmentation's side of asking people."""
