"""Handwritten digits: 1,797 images of 8 x 8, bundled with scikit-learn; the seed picks a fifth to judge on.

Alpaydin and Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository, 1998.
"""

import torch

from suite.workloads.accuracy.classifier import Classifier, fingerprint

FOLDS = 5
PROTOCOL = "digits-5-folds"  # seed mod 5 is the fold; the order of the images is one permutation for all


class Digits(Classifier):
    """Images as 64 numbers between 0 and 1."""

    def __init__(self, seed):
        from sklearn.datasets import load_digits  # it takes longer to import than all else here together

        images, labels = load_digits(return_X_y=True)
        x, y = torch.tensor(images / 16, dtype=torch.float32), torch.tensor(labels)
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
        fold = order[seed % FOLDS :: FOLDS]
        rest = torch.cat([order[other::FOLDS] for other in range(FOLDS) if other != seed % FOLDS])
        rest = rest[torch.randperm(len(rest), generator=torch.Generator().manual_seed(0))]
        super().__init__(fingerprint("digits", x, y), (x[rest], y[rest]), (x[fold], y[fold]), seed)
