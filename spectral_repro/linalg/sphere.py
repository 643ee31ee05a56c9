"""The geometry of the unit sphere, for many vectors at once (cho2017, section 3: points of G(1, n) as unit vectors).

Points y, tangent vectors v with <y, v> = 0 and any other vectors are (..., n), or lie along the axis or axes ``dim``, and are
floating point. A tangent vector of length t moves a point by the angle t along a great circle. Vectors of length 0 are allowed.
"""

import torch
from torch import Tensor

Dim = int | tuple[int, ...]


def dot(a: Tensor, b: Tensor, dim: Dim = -1) -> Tensor:
    """<a, b>; the axes summed over stay, of size 1."""
    return (a * b).sum(dim, keepdim=True)


def length(vector: Tensor, dim: Dim = -1) -> Tensor:
    """|v|; the axes summed over stay, of size 1."""
    norm: Tensor = torch.linalg.vector_norm(vector, dim=dim, keepdim=True)
    return norm


def unit(vector: Tensor, dim: Dim = -1) -> Tensor:
    """v / |v|, and 0 for v = 0."""
    return vector / length(vector, dim).clamp_min(torch.finfo(vector.dtype).tiny)


def project(point: Tensor, vector: Tensor, dim: Dim = -1) -> Tensor:
    """The part of a vector that is tangent at y, v - <y, v> y (cho2017, equation 6)."""
    return torch.addcmul(vector, point, dot(point, vector, dim), value=-1)


def exponential(point: Tensor, tangent: Tensor, dim: Dim = -1) -> Tensor:
    """The end of the great circle from y along v, cos(t) y + sin(t) v / t with t = |v| (cho2017, equation 7)."""
    angle = length(tangent, dim)
    return torch.addcmul(angle.cos() * point, tangent, torch.sinc(angle / torch.pi))


def transport(point: Tensor, tangent: Tensor, vector: Tensor, dim: Dim = -1) -> Tensor:
    """A tangent vector w carried along v in parallel (cho2017, equation 8): with t = |v| and u = v / t,

    w - <u, w> (sin(t) y + (1 - cos(t)) u).
    """
    angle, direction = length(tangent, dim), unit(tangent, dim)
    along = dot(direction, vector, dim)
    turned = torch.addcmul(vector, direction, 2 * along * (angle / 2).sin().square(), value=-1)
    return turned.addcmul_(point, along * angle.sin(), value=-1)


def distance(a: Tensor, b: Tensor, dim: Dim = -1) -> Tensor:
    """The angle between two points in [0, pi], 2 atan2(|a - b|, |a + b|), accurate for tiny angles; ``dim`` is removed."""
    return 2 * torch.atan2(length(a - b, dim), length(a + b, dim)).squeeze(dim)


def advance_(point: Tensor, velocity: Tensor, time: Tensor | float = 1.0, dim: Dim = -1) -> None:
    """Moves y along its great circle with the tangent velocity v for a time r, and carries v along, in place: with s = r |v|,

        y <- cos(s) y + sin(s) v / |v|,   v <- cos(s) v - sin(s) |v| y.

    That is `exponential` along r v, and `transport` of v along it (cho2017, equation 9). With h = tan(s / 2), the rotation is

        v <- v - h |v| y,   y <- y + sin(s) v / |v|,   v <- v - h |v| y.

    These are three passes over memory. However short a step is, its change of |y| is not lost to rounding, so y stays on the
    sphere. Close to half a turn the rounding error of v grows with h. So |h| is at most 1 / sqrt(eps), with eps that of the
    dtype, which changes s by at most 2 sqrt(eps).
    """
    speed, limits = length(velocity, dim), torch.finfo(point.dtype)
    half = (time * speed / 2).tan().clamp(-(limits.eps**-0.5), limits.eps**-0.5)
    kick, drift = half * speed, 2 * half / (1 + half.square()) / speed.clamp_min(limits.tiny)
    velocity.addcmul_(point, kick, value=-1)
    point.addcmul_(velocity, drift)
    velocity.addcmul_(point, kick, value=-1)
