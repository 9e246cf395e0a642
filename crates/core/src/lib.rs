//! Lazul's arrays: lazy graph, operations, evaluation, memory, random numbers.
