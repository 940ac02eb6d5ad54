"""CHESS: a cut for each neuron, lower where its weights are large: as cheap in a call as one for all.

What counts is then the magnitude of what a neuron adds to the answer, which is also how ReLU^2 Wins (Zhang et
al. 2024) tells active neurons from others, and Sparsing Law (Luo et al. 2024) cuts tails.

Bad at: tokens unlike the sample, of which it keeps more or fewer.
"""

from suite.activations import Active
from suite.ops.actmm import learned, norms, sample
from suite.selector import Keeping, selector


@selector(ops=("actmm", "actmm_up"), ids=("chess", "relu2", "sparsing-law"))
def chess(case, w):
    """Neurons whose activation times the norm of their weights is above a quantile of a sample (CHESS).

    He et al., "CHESS: Optimizing LLM Inference via Channel-Wise Thresholding and Selective Sparsification",
    EMNLP 2024.
    """
    cut = learned(case, sample(case), norms(case, w).cpu()).to(w.device)
    return Keeping(lambda *live: Active(live[-1], cut), (cut,))
