"""Reading: any dataset by URL, in an order that can be resumed exactly."""
