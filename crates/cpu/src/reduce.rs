use lazul_ir::{ArgReduceOp, Axes, Job, ReduceOp};
pub(crate) fn reduce(_o: ReduceOp, _a: &Axes, _job: &Job<'_>) { panic!() }
pub(crate) fn arg_reduce(_o: ArgReduceOp, _a: usize, _job: &Job<'_>) { panic!() }
