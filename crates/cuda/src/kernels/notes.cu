// Single words that an evaluation writes for the ones after it, in the order of their stream.

// Gives the fault that was met since the last seal, if there is one, the number of its evaluation. Nobody
// else writes a fault that was met, and a fault that is not there stays so.
#ifdef ENTRY_seal
KERNEL seal(Fault *fault, u64 *evaluation, u64 number) {
    BEGIN;
    volatile Fault *seen = fault;
    if (seen->code == 1u) {
        *(volatile u64 *)evaluation = number;
        __threadfence_system();
        seen->code = 2u;
        __threadfence_system();
    }
}
#endif

// A constant.
#ifdef ENTRY_poke
KERNEL poke(u64 *to, u64 bits) {
    BEGIN;
    *to = bits;
}
#endif
