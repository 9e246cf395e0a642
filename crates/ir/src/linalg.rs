//! Linear algebra: what the decompositions and solvers take and give.

/// Which singular vectors are computed, of a matrix `(m, n)` with `k = min(m, n)`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Vectors {
    /// None.
    No,
    /// `k` on each side.
    Reduced,
    /// `m` on the left and `n` on the right: whole bases.
    Full,
}

/// Linear algebra on matrices, which are the last two axes of operands; the axes before them are a
/// batch of the same shape in every operand and output.
///
/// Operands are f32, f64 or complex64, all of one dtype, which floating-point outputs have too unless it
/// says otherwise; "real" is f32 for complex64. Everything is computed in f64 (or complex numbers of
/// two f64) and rounded once. A NaN or an infinity among the entries of the first operand that count is
/// an error. `ᴴ` is the conjugate transpose; of a Hermitian matrix the diagonal's imaginary parts do not
/// count.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum LinalgOp {
    /// `a (…, m, n)` → `lu (…, m, n)`, `pivots u32 (…, k)`, `order u32 (…, m)`: rows `order` of `a` are
    /// `L·U`, where `U` is the upper triangle of `lu`, and `L` has ones on its diagonal and the rest of
    /// `lu` below. `order` is what is left of `0..m` when place `i` is swapped with place `pivots[i]`
    /// for each `i` in turn. Partial pivoting; a zero pivot is no error.
    Lu,
    /// `a (…, n, n)` → its determinant `(…)`.
    Det,
    /// `a (…, m, n)` → `q (…, m, p)`, `r (…, p, n)`: `a = q·r`, `qᴴq = 1`, `r` upper triangular with a
    /// real diagonal; `p` is `m` if `full`, else `min(m, n)`.
    Qr {
        /// Whether `q` is square.
        full: bool,
    },
    /// `a (…, m, n)` → real `s (…, k)` in descending order, or with vectors `u, s, vᴴ`:
    /// `a = u·diag(s)·vᴴ`. No convergence is an error.
    Svd(Vectors),
    /// `a (…, n, n)`, Hermitian, of which one triangle is read → real `w (…, n)` in ascending order,
    /// and with vectors `v (…, n, n)`: `a = v·diag(w)·vᴴ`. No convergence is an error.
    Eigh {
        /// Whether the upper triangle is read, not the lower.
        upper: bool,
        /// Whether vectors are computed.
        vectors: bool,
    },
    /// `a (…, n, n)` → complex64 `w (…, n)` in no particular order, and with vectors complex64
    /// `v (…, n, n)`: column `i` has length 1 and `a·v[i] = w[i]·v[i]`. No convergence is an error.
    Eig {
        /// Whether vectors are computed.
        vectors: bool,
    },
    /// `a (…, n, n)`, Hermitian, of which one triangle is read → lower triangular `l` with `a = l·lᴴ`, or
    /// upper triangular `u` with `a = uᴴ·u`. Where `a` is not positive definite: an error.
    Cholesky {
        /// Whether the upper triangle is read and an upper triangular factor given.
        upper: bool,
    },
    /// `a (…, n, n)`, of which one triangle is read, `b (…, n, k)` → `x (…, n, k)` with `a·x = b`. A
    /// zero on the diagonal is an error.
    SolveTriangular {
        /// Whether the upper triangle is read, not the lower.
        upper: bool,
        /// Whether the diagonal is ones, whatever it holds.
        unit: bool,
    },
    /// `a (…, n, n), b (…, n, k)` → `x (…, n, k)` with `a·x = b`. A singular `a` is an error.
    Solve,
    /// `a (…, n, n)` → its inverse. A singular `a` is an error.
    Inverse,
    /// `a (…, m, n)` → its Moore-Penrose inverse `(…, n, m)`, singular values below
    /// `10·max(m, n)·ε` of the largest counting as zero (`ε` of the operand's precision).
    PseudoInverse,
}

impl LinalgOp {
    /// The public function's name.
    pub const fn name(self) -> &'static str {
        match self {
            LinalgOp::Lu => "lu",
            LinalgOp::Det => "det",
            LinalgOp::Qr { .. } => "qr",
            LinalgOp::Svd(_) => "svd",
            LinalgOp::Eigh { .. } => "eigh",
            LinalgOp::Eig { .. } => "eig",
            LinalgOp::Cholesky { .. } => "cholesky",
            LinalgOp::SolveTriangular { .. } => "solve_triangular",
            LinalgOp::Solve => "solve",
            LinalgOp::Inverse => "inv",
            LinalgOp::PseudoInverse => "pinv",
        }
    }
}
