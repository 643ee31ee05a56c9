"""What the gradient methods and the layers do and cost, measured side by side."""
