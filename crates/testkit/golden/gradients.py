"""Gradients of composite functions: `gradients.json` and `gradients.safetensors`, by PyTorch in float64.

    pip install numpy torch ml_dtypes safetensors
    python gradients.py

A case has the inputs of a function, the cotangent of its result, the result, and the cotangents of those
inputs that are differentiated. Where `directions` are given, `second` is the derivative of the inputs'
cotangents along them: the product with the Hessian.
"""

import numpy as np
import torch
import torch.nn.functional as F

from golden import write_json, write_safetensors

RNG = np.random.default_rng(20)
TENSORS, CASES = {}, []


def draw(*shape, scale=1.0):
    return torch.tensor(RNG.normal(size=shape) * scale, dtype=torch.float64)


def draw_complex(*shape):
    # Exactly what complex64 holds.
    both = RNG.normal(size=(2, *shape)).astype(np.float32).astype(np.float64)
    return torch.tensor(both[0] + 1j * both[1], dtype=torch.complex128)


def ints(values):
    return torch.tensor(values, dtype=torch.int64)


NARROW = {np.dtype(np.complex128): np.complex64, np.dtype(np.float64): np.float32}


def store(name, tensor, narrow):
    a = tensor.detach().resolve_conj().numpy()
    if a.dtype == np.int64:
        a = a.astype(np.int32)
    TENSORS[name] = a.astype(NARROW[a.dtype]) if narrow else a
    return name


def case(op, inputs, f, second=False, rtol=1e-10, **attrs):
    """The floating inputs are differentiated, all at once."""
    id = f"{op}-{len(CASES)}"
    inputs = [x.detach().clone() for x in inputs]
    for x in inputs:
        if x.dtype in (torch.float64, torch.complex128):
            x.requires_grad_()
    moving = [x for x in inputs if x.requires_grad]
    # Complex numbers are pairs of float32, and so are their parts.
    narrow = any(x.is_complex() for x in inputs)
    keep = lambda name, x: store(f"{id}/{name}", x, narrow)
    y = f(*inputs)
    c = draw_complex(*y.shape) if y.is_complex() else draw(*y.shape)
    grads = torch.autograd.grad(y, moving, c, create_graph=second, materialize_grads=True)
    entry = {"id": id, "op": op, "attrs": attrs, "rtol": rtol}
    entry["inputs"] = [keep(f"in{i}", x) for i, x in enumerate(inputs)]
    entry["cotangent"] = keep("c", c)
    entry["output"] = keep("out", y)
    entry["grads"] = [keep(f"d{i}", g) for i, g in enumerate(grads)]
    if second:
        v = [draw(*x.shape) for x in moving]
        total = sum((g * v).sum() for g, v in zip(grads, v))
        again = torch.autograd.grad(total, moving, materialize_grads=True)
        entry["directions"] = [keep(f"v{i}", x) for i, x in enumerate(v)]
        entry["second"] = [keep(f"h{i}", x) for i, x in enumerate(again)]
    CASES.append(entry)


def mlp(w1, b1, w2, b2, x, labels):
    hidden = torch.tanh(x @ w1 + b1)
    return F.cross_entropy(hidden @ w2 + b2, labels)


case("mlp", [draw(3, 4), draw(4), draw(4, 5), draw(5), draw(6, 3), ints([0, 4, 2, 2, 1, 3])], mlp, second=True)

EPS = 2.0**-10


def rms_norm(x, w):
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + EPS) * w


case("layer_norm", [draw(3, 5), draw(5), draw(5)], lambda x, w, b: F.layer_norm(x, (5,), w, b, EPS), second=True, eps=EPS)
case("rms_norm", [draw(2, 3, 4), draw(4)], rms_norm, second=True, eps=EPS)


def attention(mask_kind):
    def f(q, k, v, *rest):
        k, v = (x.repeat_interleave(q.shape[1] // k.shape[1], 1) for x in (k, v))
        s = q @ k.mT * 0.5
        tq, tk = s.shape[-2:]
        if mask_kind == "causal":
            s = s.masked_fill(torch.ones(tq, tk).triu(1 + tk - tq).bool(), -torch.inf)
        elif mask_kind == "bool":
            s = s.masked_fill(~rest[0], -torch.inf)
        elif mask_kind == "added":
            s = s + rest[0]
        elif mask_kind == "sinks":
            sinks = rest[0].reshape(1, -1, 1, 1).expand(*s.shape[:3], 1)
            return torch.cat([s, sinks], -1).softmax(-1)[..., :-1] @ v
        return s.softmax(-1) @ v

    return f


keep = torch.tensor([[True, False, True, True], [True, True, False, False], [False, False, False, True]])
for kind, rest in [("none", []), ("causal", []), ("bool", [keep]), ("added", [draw(2, 1, 4)]), ("sinks", [draw(2)])]:
    case("attention", [draw(1, 2, 3, 4), draw(1, 1, 4, 4), draw(1, 1, 4, 2), *rest], attention(kind), second=True, mask=kind)


def rope(traditional):
    def f(x):
        t, d = x.shape[-2:]
        # Angles are in float32, whatever the rest is in.
        inverse = (10.0 ** (-torch.arange(0, d, 2, dtype=torch.float64) / d)).float()
        angle = ((torch.arange(t) + 3).float()[:, None] * inverse).double()
        cos, sin = angle.cos(), angle.sin()
        a, b = (x[..., 0::2], x[..., 1::2]) if traditional else x.chunk(2, -1)
        p, q = a * cos - b * sin, a * sin + b * cos
        return torch.stack([p, q], -1).flatten(-2) if traditional else torch.cat([p, q], -1)

    return f


for traditional in [False, True]:
    case("rope", [draw(1, 2, 3, 4)], rope(traditional), rtol=1e-6, traditional=traditional)

case("logcumsumexp", [draw(3, 5)], lambda x: torch.logcumsumexp(x, 1), second=True)
zeros = draw(4, 4)
zeros[1, 2] = zeros[2, 0] = zeros[2, 3] = 0
zeros[3] = 0
case("prod", [zeros], lambda x: x.prod(1), second=True)
case("cumprod", [zeros], lambda x: x.cumprod(1))
ties = ints([[3, 1, 3, 2, 1], [0, 0, 0, 0, 0], [5, 4, 4, 5, 1]]).double()
case("max", [ties], lambda x: x.amax(1))
case("logsumexp", [draw(3, 4)], lambda x: torch.logsumexp(x, (0, 1)), second=True)
case("softmax", [draw(3, 4, scale=30)], lambda x: x.softmax(0), second=True)
case("std", [draw(3, 4)], lambda x: x.std(0, correction=1), second=True)

case("sort", [ties + draw(3, 5, scale=0.01)], lambda x: x.sort(1).values)
case("sort", [ties], lambda x: x.sort(dim=1, stable=True).values)
case("topk", [draw(2, 6)], lambda x: x.topk(3, 1).values.flip(1))

table, rows = draw(4, 3), ints([[2, 2], [0, 2]])
case("take", [table, rows], lambda x, i: x[i])
case("take_along_axis", [draw(3, 4), ints([[0, 0, 3], [1, 1, 1], [2, 3, 2]])], lambda x, i: x.gather(1, i))
at, updates = ints([1, 3, 1, 1]), draw(4, 2)
wide = lambda i: i[:, None].expand(-1, 2)
case("add_at", [draw(4, 2), at, updates], lambda x, i, u: x.index_add(0, i, u))
case("multiply_at", [draw(4, 2), at, updates], lambda x, i, u: x.scatter_reduce(0, wide(i), u, "prod"))
tied, large = torch.ones(4, 2, dtype=torch.float64), torch.tensor([[2.0, 1], [0, 1], [2, 1], [1, 3]], dtype=torch.float64)
case("max_at", [tied, at, large], lambda x, i, u: x.scatter_reduce(0, wide(i), u, "amax"))
case("set_at", [draw(4, 2), ints([3, 0]), draw(2, 2)], lambda x, i, u: x.index_copy(0, i, u))

bases = torch.tensor([0.0, 0.0, 0.0, -2.0, 2.0, 2.0, 0.5], dtype=torch.float64)
case("power", [bases, torch.tensor([0.0, 1.0, 2.0, 3.0, 0.0, -1.5, 2.5], dtype=torch.float64)], lambda a, b: a**b)
# By the base alone where the result's derivative by the exponent is no number.
case("power_of_base", [bases], lambda a: a**3)

for op, f in [("complex_abs", torch.abs), ("complex_conj_product", lambda z: z.conj() * z * z), ("complex_exp", torch.exp)]:
    case(op, [draw_complex(2, 3)], f, rtol=2e-6)
case("complex_matmul", [draw_complex(2, 3), draw_complex(3, 2)], torch.matmul, rtol=2e-6)
case("complex_parts", [draw_complex(4)], lambda z: z.real * z.imag, rtol=2e-6)
case("complex_divide", [draw_complex(3), draw_complex(3)], torch.div, rtol=2e-6)
case("complex_prod", [draw_complex(2, 3)], lambda z: z.prod(1), rtol=2e-6)
case("complex_normalise", [draw_complex(3)], torch.sgn, rtol=2e-6)

write_json("gradients.json", {"versions": {"torch": torch.__version__.split("+")[0]}, "tensors": "gradients.safetensors"}, CASES)
write_safetensors("gradients.safetensors", TENSORS)
