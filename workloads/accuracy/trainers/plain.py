"""Plain: the training of the dense model, for models of another size."""

from suite.method import trainer


@trainer(start="fresh", training="weights")
def plain(lesson):
    """Train a fresh model as it is."""
    for _ in lesson.course():
        lesson.step()
