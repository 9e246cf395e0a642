use lazul_ir::{Job, ScanOp};
pub(crate) fn scan(_o: ScanOp, _a: usize, _r: bool, _i: bool, _job: &Job<'_>) { panic!() }
