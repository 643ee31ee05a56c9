"""What networks with random weights do to their inputs, measured without training: a study is called and returns rows."""
