from __future__ import annotations

import numpy as np
import pytest
import torch

from posekit.geometry.rotations import matrix_from_axis_angle
from posekit.geometry.transforms import Similarity, fit_similarity, similarity_distances


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _svd_fit(source: np.ndarray, target: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """Umeyama's solution for one pose: the second implementation."""
    p, q = source - source.mean(0), target - target.mean(0)
    u, s, vt = np.linalg.svd(p.T @ q)
    z = np.array([1.0, 1.0, np.sign(np.linalg.det(vt.T @ u.T))])
    rotation = vt.T @ np.diag(z) @ u.T
    scale = (z * s).sum() / (p**2).sum()
    return scale, rotation, target.mean(0) - scale * rotation @ source.mean(0)


def _random_similarity(count: int, seed: int) -> Similarity:
    generator = _generator(seed)
    return Similarity(
        torch.rand(count, dtype=torch.float64, generator=generator) * 3 + 0.1,
        matrix_from_axis_angle(2 * torch.randn(count, 3, dtype=torch.float64, generator=generator)),
        5 * torch.randn(count, 3, dtype=torch.float64, generator=generator),
        torch.zeros(count, dtype=torch.bool),
    )


def test_recovers_a_similarity_exactly() -> None:
    truth = _random_similarity(500, 1)
    source = torch.randn(500, 17, 3, dtype=torch.float64, generator=_generator(2))
    fit = fit_similarity(source, truth.apply(source))
    torch.testing.assert_close(fit.rotation, truth.rotation, rtol=0, atol=1e-12)
    torch.testing.assert_close(fit.scale, truth.scale, rtol=1e-12, atol=0)
    torch.testing.assert_close(fit.translation, truth.translation, rtol=0, atol=1e-11)
    assert not bool(fit.degenerate.any())


@pytest.mark.parametrize("noise", [0.1, 10.0])
@pytest.mark.parametrize("mirrored", [False, True])
def test_agrees_with_the_svd_and_never_reflects(noise: float, mirrored: bool) -> None:
    truth = _random_similarity(300, 3)
    source = torch.randn(300, 14, 3, dtype=torch.float64, generator=_generator(4))
    target = truth.apply(source * torch.tensor([-1.0 if mirrored else 1.0, 1.0, 1.0], dtype=torch.float64))
    target = target + noise * torch.randn(target.shape, dtype=torch.float64, generator=_generator(5))
    fit = fit_similarity(source, target)
    for index in range(300):
        scale, rotation, translation = _svd_fit(source[index].numpy(), target[index].numpy())
        np.testing.assert_allclose(fit.rotation[index], rotation, atol=1e-8)
        np.testing.assert_allclose(fit.scale[index], scale, rtol=1e-10)
        np.testing.assert_allclose(fit.translation[index], translation, atol=1e-7)
    torch.testing.assert_close(torch.linalg.det(fit.rotation), torch.ones(300, dtype=torch.float64))


@pytest.mark.parametrize("flatness", [0.0, 1e-9, 1e-5])
def test_planar_points_are_fitted(flatness: float) -> None:
    source = torch.randn(100, 10, 3, dtype=torch.float64, generator=_generator(6))
    source[..., 2] *= flatness
    truth = _random_similarity(100, 7)
    fit = fit_similarity(source, truth.apply(source))
    torch.testing.assert_close(fit.rotation, truth.rotation, rtol=0, atol=1e-9)


def test_collinear_points_are_aligned_by_a_rotation() -> None:
    along = torch.linspace(-1, 1, 9, dtype=torch.float64)[:, None]
    source = along * torch.tensor([1.0, 2.0, -0.5], dtype=torch.float64)
    truth = _random_similarity(20, 8)
    sources = source.expand(20, 9, 3)
    fit = fit_similarity(sources, truth.apply(sources))
    torch.testing.assert_close(fit.apply(sources), truth.apply(sources), rtol=0, atol=1e-9)
    torch.testing.assert_close(torch.linalg.det(fit.rotation), torch.ones(20, dtype=torch.float64))


def test_two_equally_good_rotations_give_the_optimal_residual() -> None:
    # The mirror image of a set with two equal singular values has a one-parameter family of best rotations.
    source = torch.cat([torch.eye(3), -torch.eye(3)]).double() * torch.tensor([3.0, 1.0, 1.0], dtype=torch.float64)
    target = source * torch.tensor([1.0, 1.0, -1.0], dtype=torch.float64)
    fit = fit_similarity(source, target)
    scale, rotation, translation = _svd_fit(source.numpy(), target.numpy())
    ours = (fit.apply(source) - target).square().sum()
    best = np.square(scale * source.numpy() @ rotation.T + translation - target.numpy()).sum()
    assert ours.item() == pytest.approx(best, rel=1e-12)


def test_degenerate_sets_are_flagged_and_go_to_the_target_mean() -> None:
    source = torch.randn(3, 8, 3, generator=_generator(9))
    target = torch.randn(3, 8, 3, generator=_generator(10))
    source[1] = torch.tensor([1.0, 2.0, 3.0])
    target[2] = torch.tensor([4.0, 5.0, 6.0])
    fit = fit_similarity(source, target)
    assert fit.degenerate.tolist() == [False, True, True]
    aligned = fit.apply(source)
    torch.testing.assert_close(aligned[1:], target[1:].mean(1, keepdim=True).expand(2, 8, 3), rtol=0, atol=1e-5)
    assert all(bool(part.isfinite().all()) for part in (*fit, *fit.inverse()))


def test_weights_ignore_points_even_if_they_are_nan() -> None:
    source = torch.randn(4, 12, 3, dtype=torch.float64, generator=_generator(11))
    target = torch.randn(4, 12, 3, dtype=torch.float64, generator=_generator(12))
    weights = torch.ones(4, 12, dtype=torch.float64)
    weights[:, 5] = 0.0
    spoilt = source.clone()
    spoilt[:, 5] = torch.nan
    keep = [index for index in range(12) if index != 5]
    for ours, expected in zip(
        fit_similarity(spoilt, target, weights), fit_similarity(source[:, keep], target[:, keep]), strict=True
    ):
        torch.testing.assert_close(ours, expected)
    nothing = fit_similarity(source, target, torch.zeros(4, 12, dtype=torch.float64))
    assert bool(nothing.degenerate.all()) and bool(nothing.translation.isfinite().all())


def test_doubled_weight_equals_a_doubled_point() -> None:
    source = torch.randn(6, 3, dtype=torch.float64, generator=_generator(13))
    target = torch.randn(6, 3, dtype=torch.float64, generator=_generator(14))
    weights = torch.tensor([2.0, 1, 1, 1, 1, 1], dtype=torch.float64)
    doubled = fit_similarity(torch.cat([source, source[:1]]), torch.cat([target, target[:1]]))
    for ours, expected in zip(fit_similarity(source, target, weights), doubled, strict=True):
        torch.testing.assert_close(ours, expected)


def test_nan_stays_in_its_own_set() -> None:
    source = torch.randn(3, 8, 3, generator=_generator(15))
    target = torch.randn(3, 8, 3, generator=_generator(16))
    target[1, 2, 0] = torch.nan
    fit = fit_similarity(source, target)
    assert bool(fit.apply(source)[1].isnan().all())
    assert bool(fit.apply(source)[[0, 2]].isfinite().all())


def test_rigid_fit_keeps_the_size() -> None:
    truth = _random_similarity(50, 17)
    source = torch.randn(50, 17, 3, dtype=torch.float64, generator=_generator(18))
    fit = fit_similarity(source, truth.apply(source), with_scale=False)
    assert bool((fit.scale == 1).all())
    torch.testing.assert_close(fit.rotation, truth.rotation, rtol=0, atol=1e-11)


def test_inverse_undoes_apply() -> None:
    truth = _random_similarity(50, 19)
    source = torch.randn(50, 17, 3, dtype=torch.float64, generator=_generator(20))
    torch.testing.assert_close(truth.inverse().apply(truth.apply(source)), source)


def test_batch_shapes_and_precision_are_kept() -> None:
    source = torch.randn(2, 5, 7, 3, generator=_generator(21))
    fit = fit_similarity(source, source * 2)
    assert fit.scale.shape == (2, 5) and fit.rotation.shape == (2, 5, 3, 3) and fit.scale.dtype == torch.float32
    single = fit_similarity(source[0, 0], source[0, 0])
    assert single.scale.shape == () and single.apply(source[0, 0]).shape == (7, 3)
    assert fit_similarity(source[:0, 0], source[:0, 0]).scale.shape == (0,)


def test_more_sets_than_a_chunk_equal_the_sets_one_by_one() -> None:
    source = torch.randn(20_000, 5, 3, generator=_generator(22))
    target = torch.randn(20_000, 5, 3, generator=_generator(23))
    whole = fit_similarity(source, target)
    part = fit_similarity(source[16_000:16_500], target[16_000:16_500])
    torch.testing.assert_close(whole.rotation[16_000:16_500], part.rotation)


def test_gradient_matches_finite_differences() -> None:
    source = torch.randn(4, 6, 3, dtype=torch.float64, generator=_generator(24)).requires_grad_()
    target = torch.randn(4, 6, 3, dtype=torch.float64, generator=_generator(25)).requires_grad_()
    assert torch.autograd.gradcheck(lambda p, q: fit_similarity(p, q)[:3], (source, target))


@pytest.mark.parametrize("weighted", [False, True])
def test_distances_are_those_after_applying_the_fit(weighted: bool) -> None:
    source = torch.randn(5000, 9, 3, dtype=torch.float64, generator=_generator(26))
    target = torch.randn(5000, 9, 3, dtype=torch.float64, generator=_generator(27)) + 4.0
    source[7] = 2.0  # a single point
    weights = (torch.rand(5000, 9, generator=_generator(28)) > 0.3).double() if weighted else None
    expected = (fit_similarity(source, target, weights).apply(source) - target).norm(dim=-1)
    found = similarity_distances(source, target, weights)
    counted = torch.ones(5000, 9, dtype=torch.bool) if weights is None else weights > 0
    torch.testing.assert_close(found[counted], expected[counted], rtol=0, atol=1e-11)
    single = similarity_distances(source.float(), target.float(), None if weights is None else weights.float())
    assert single.dtype == torch.float32
    # Where two rotations are nearly as good, few points and few digits may choose either; their fit is as good.
    assert (single - found)[counted].abs().median().item() < 1e-6


def test_distances_have_derivatives_even_where_they_are_zero() -> None:
    source = torch.randn(4, 6, 3, dtype=torch.float64, generator=_generator(29)).requires_grad_()
    target = torch.randn(4, 6, 3, dtype=torch.float64, generator=_generator(30)).requires_grad_()
    assert torch.autograd.gradcheck(similarity_distances, (source, target))
    similarity_distances(source, source.detach().clone()).sum().backward()
    assert source.grad is not None and bool(source.grad.isfinite().all())


@pytest.mark.parametrize(
    "spectrum", [(1.0, 1.0, 1.0), (1.0, 1e-3, 1e-6), (1.0, 0.5, -0.499), (1.0, 1.0, -0.9), (1.0, 0.0, 0.0)]
)
def test_all_spectra_of_covariances_are_solved(spectrum: tuple[float, float, float]) -> None:
    # Covariances of given singular values: round, flat, nearly ambiguous, mirrored, on a line.
    turn = matrix_from_axis_angle(torch.randn(200, 3, dtype=torch.float64, generator=_generator(31)))
    axes = torch.cat([torch.eye(3, dtype=torch.float64), -torch.eye(3, dtype=torch.float64)]).expand(200, -1, -1)
    goal = axes * torch.tensor(spectrum, dtype=torch.float64) @ turn.transpose(1, 2)
    distances = similarity_distances(axes, goal).square().sum(-1).numpy()
    expected = []
    for p, q in zip(axes.numpy(), goal.numpy(), strict=True):
        scale, rotation, shift = _svd_fit(p, q)
        expected.append(np.square(scale * p @ rotation.T + shift - q).sum())
    np.testing.assert_allclose(distances, expected, rtol=0, atol=1e-12)
