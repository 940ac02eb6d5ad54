"""Plain: the training of the dense model, for models of another size."""

from suite.method import trainer


@trainer(start="fresh", training="weights")
def plain(sparsifier):
    """Train a fresh model as it is."""
    for _ in sparsifier.schedule():
        sparsifier.step()
