"""sparsemark: what plug-ins and notebooks import. Everything else is `suite`'s own business."""
