use lazul_ir::Job;
pub(crate) fn matmul(_job: &Job<'_>) { panic!() }
