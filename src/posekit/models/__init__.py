"""Networks: `backbone` (ResNet trunks and their weights), `body_regressor` (bodies from images)."""
