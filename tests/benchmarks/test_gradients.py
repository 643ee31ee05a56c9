import pytest

from spectral_repro.benchmarks.gradients import Gradients, at_size
from spectral_repro.benchmarks.spectra import NAMED
from spectral_repro.configuration.groups import options
from spectral_repro.linalg.backward import Exact, TopN


@pytest.fixture(scope="module")
def gradients(suite) -> Gradients:
    return suite("gradients")


def test_every_method_is_measured(gradients: Gradients):
    """Every option of backward except hybrid, which switches between methods."""
    assert set(options("backward")) - {"hybrid"} <= set(gradients.methods)


@pytest.mark.parametrize(("size", "kept"), [(4, 3), (64, 52), (256, 206), (1, 1)])
def test_topn_keeps_the_same_share_at_every_size(size: int, kept: int):
    assert at_size(TopN(206), size) == TopN(kept)
    assert at_size(Exact(), size) == Exact()


def test_undefined_and_slow_methods_are_skipped(gradients: Gradients):
    cases = {case.function_name: case for case in gradients.cases(gradients.problem(NAMED["separated"], 4))}
    assert set(gradients.usable(cases["sqrt"])) == set(gradients.methods)
    left = set(gradients.methods) - set(gradients.usable(cases["pca"]))
    assert left == {"newton_schulz", "isqrt_cov", *(name for name in gradients.methods if name.startswith("lyapunov"))}
    (note,) = gradients.left_out()
    assert note.startswith("pca has no ") and all(name in note for name in left)
    large = gradients.problem(NAMED["separated"], 128)
    assert all("power" not in gradients.usable(case) for case in gradients.cases(large))
