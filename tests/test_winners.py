"""Winners: an energy window for each curve's best dense and best sparse kernel, as the table has them."""

from lines import grid, line

from suite.reading import frame
from suite.record import Result
from suite.winners import MOST, winners


def results(*lines) -> list[Result]:
    return [one for one in lines if isinstance(one, Result)]


def test_n_of_m_patterns_are_one_curve_and_get_one_case() -> None:
    lines = []
    for pattern, sparsity in (("2:4", 0.5), ("1:8", 0.875), ("1:16", 0.9375)):
        lines += grid(
            sizes=((64, 64, 8),), sparsities=(sparsity,), crossover=0.1, failures=False, pattern=pattern
        )
    ((at, kernels),) = winners(results(*lines)).items()
    assert at == ("transformer", "spmm/m=64,k=64,n=8/1:8/float32/seed=0")
    assert kernels == ("spmm_dense_torch", "spmm_csr_mine")


def test_block_shapes_are_curves_of_their_own() -> None:
    lines = [line(pattern=f"block{side}x{side}@0.9", seconds=[1.0] * 4) for side in (16, 32)]
    assert len(winners(lines)) == 2


def test_the_winners_are_the_rows_the_table_shows() -> None:
    lines = [
        line(kernel="dense", dense=True, seconds=[2.0] * 6),
        line(kernel="late", seconds=[1.0, 3.0] * 3),  # odd samples choose, by all samples it would be 2.0
        line(kernel="even", seconds=[1.5] * 6),
        line(kernel="faked", execution="simulated", seconds=[0.1] * 6),
        line(kernel="off", seconds=[0.2] * 6),
        line(kernel="off", visit=2, outcome="wrong", note="off by one"),
    ]
    ((_, kernels),) = winners(lines).items()
    made = frame.from_lines(lines)
    assert list(kernels) == list(made[made["best"]]["kernel"]) == ["dense", "late"]


def test_dense_without_zeros_is_metered_beside_the_best_and_is_never_it() -> None:
    """Zeros take less power: what dense costs without them is told apart."""
    lines = [
        line(kernel="dense", dense=True, execution="dense", seconds=[2.0] * 6),
        line(kernel="sparse", seconds=[1.5] * 6),
        line(kernel="filled", execution="dense", seconds=[1.0] * 6),
        line(kernel="filled_slowly", execution="dense", seconds=[3.0] * 6),
    ]
    ((_, kernels),) = winners(lines).items()
    made = frame.from_lines(lines)
    assert kernels == ("dense", "sparse", "filled")
    assert list(made[made["best"]]["kernel"]) == ["dense", "sparse"]


def test_a_case_with_both_kinds_comes_before_a_nearer_one() -> None:
    lines = [line(seconds=[1.0] * 2, sparsity=0.9)]
    for dense in (True, False):
        lines.append(line(kernel=f"k{dense}", dense=dense, seconds=[1.0] * 2, sparsity=0.5))
    ((_, case),) = winners(lines)
    assert "@0.5/" in case


def test_windows_are_few_unless_all_are_asked_for() -> None:
    lines = results(*grid(sizes=tuple((64, 64, n) for n in range(1, MOST + 9)), sparsities=(0.5,), visits=1))
    assert len(winners(lines)) == MOST // 2
    everything = winners(lines, everything=True)
    assert len(everything) > MOST
    assert "spmm_endless" not in {name for kernels in everything.values() for name in kernels}
