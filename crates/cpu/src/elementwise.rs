use lazul_ir::{BinaryOp, Job, Tape, UnaryOp};
pub(crate) fn fused(_t: &Tape, _job: &Job<'_>) { panic!() }
pub(crate) fn unary(_o: UnaryOp, _job: &Job<'_>) { panic!() }
pub(crate) fn binary(_o: BinaryOp, _job: &Job<'_>) { panic!() }
pub(crate) fn select(_job: &Job<'_>) { panic!() }
pub(crate) fn cast(_job: &Job<'_>) { panic!() }
