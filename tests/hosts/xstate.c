/* Lets User-Mode Linux 6.1 run on processors whose register state is larger than it knows (those with AMX).
 *
 * It saves 2696 bytes of registers of each of its processes, and gives them back by PTRACE_SETREGSET, which takes the whole state of
 * the processor or nothing (EFAULT; arch/x86/kernel/fpu/regset.c). Then the hosts' first process dies. This is loaded before the C
 * library and repeats such a call with the rest of the state at rest. Nobody misses it: AMX has to be asked for, by a system call
 * that the hosts' kernel does not have. Later kernels ask for the size. */
#define _GNU_SOURCE
#include <elf.h>
#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

/* Where the state says which of its parts are not at rest, and the two parts of AMX. */
#define HEADER 512
#define AMX (3ul << 17)

/* Not on the stack: the kernel calls from stacks of its own, which are small. It has one processor, so one caller. */
static char state[1 << 15];

/* Once in many thousand calls the answer is "try again", when a host is stopped and goes on: its kernel would not. */
static long call(long request, long pid, long address, void *data)
{
    long done = -1;
    for (int tries = 0; tries < 1000; tries++) {
        done = syscall(SYS_ptrace, request, pid, address, data);
        if (done == 0 || errno != EAGAIN)
            break;
    }
    return done;
}

long ptrace(enum __ptrace_request request, ...)
{
    va_list rest;
    va_start(rest, request);
    long pid = va_arg(rest, pid_t);
    long address = (long)va_arg(rest, void *);
    void *data = va_arg(rest, void *);
    va_end(rest);

    /* The system call writes what it peeks; the C library's function returns it. */
    if (request == PTRACE_PEEKTEXT || request == PTRACE_PEEKDATA || request == PTRACE_PEEKUSER) {
        long found;
        long failed = syscall(SYS_ptrace, request, pid, address, &found);
        if (failed)
            return failed;
        errno = 0;
        return found;
    }
    long done = call(request, pid, address, data);
    if (done == 0 || errno != EFAULT || request != PTRACE_SETREGSET || address != NT_X86_XSTATE)
        return done;

    struct iovec *known = data, all = { state, sizeof state };
    if (syscall(SYS_ptrace, PTRACE_GETREGSET, pid, address, &all) != 0 || known->iov_len > all.iov_len
        || known->iov_len < HEADER + sizeof(unsigned long)) {
        errno = EFAULT;
        return -1;
    }
    memset(state, 0, all.iov_len);
    memcpy(state, known->iov_base, known->iov_len);
    unsigned long parts;
    memcpy(&parts, state + HEADER, sizeof parts);
    parts &= ~AMX;
    memcpy(state + HEADER, &parts, sizeof parts);
    return call(PTRACE_SETREGSET, pid, address, &all);
}
