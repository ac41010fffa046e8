/* SPDX-License-Identifier: Apache-2.0 */
/* The process that holds a pod's namespaces: it waits, reaps what a shared process namespace leaves
 * to it, and ends on SIGTERM and SIGINT. Without a C library, so that it takes a few pages only. */
#include <linux/signal.h>
#include <linux/wait.h>
#include <stddef.h>
#include <sys/syscall.h>

#if defined(__x86_64__)
static long call(long n, long a, long b, long c, long d)
{
	register long r10 __asm__("r10") = d;
	long ret;
	__asm__ volatile("syscall"
			 : "=a"(ret)
			 : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10)
			 : "rcx", "r11", "memory");
	return ret;
}
#elif defined(__aarch64__)
static long call(long n, long a, long b, long c, long d)
{
	register long x8 __asm__("x8") = n;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d;
	__asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3) : "memory");
	return x0;
}
#elif defined(__riscv) && __riscv_xlen == 64
static long call(long n, long a, long b, long c, long d)
{
	register long a7 __asm__("a7") = n;
	register long a0 __asm__("a0") = a;
	register long a1 __asm__("a1") = b;
	register long a2 __asm__("a2") = c;
	register long a3 __asm__("a3") = d;
	__asm__ volatile("ecall" : "+r"(a0) : "r"(a7), "r"(a1), "r"(a2), "r"(a3) : "memory");
	return a0;
}
#else
#error "the pause process knows no system calls of this machine"
#endif

#define BIT(s) (1UL << ((s)-1))

_Noreturn void _start(void);

/* Blocked signals are taken one after the other: no handler, no race. As the first process of a
 * namespace it gets no signal that it does not ask for. */
_Noreturn void _start(void)
{
	unsigned long set = BIT(SIGTERM) | BIT(SIGINT) | BIT(SIGCHLD);

	call(SYS_rt_sigprocmask, SIG_BLOCK, (long)&set, 0, sizeof(set));
	for (;;) {
		long s = call(SYS_rt_sigtimedwait, (long)&set, 0, 0, sizeof(set));
		if (s == SIGTERM || s == SIGINT)
			call(SYS_exit_group, 0, 0, 0, 0);
		while (call(SYS_wait4, -1, 0, WNOHANG, 0) > 0)
			;
	}
}
