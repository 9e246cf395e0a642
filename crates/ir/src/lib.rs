//! Lazul's vocabulary: dtypes, shapes, layouts, primitives, fused tapes, jobs and the backend trait.
