use lazul_ir::Job;
pub(crate) fn copy(_job: &Job<'_>) { panic!() }
