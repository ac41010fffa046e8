/* SPDX-License-Identifier: Apache-2.0 */
/* The filters are lists of what is allowed; other calls fail with EPERM (so that a library that
 * tries something falls back), those that only an attacker would make kill the process. */
#include "worker/jail.h"

#include <fcntl.h>
#include <grp.h>
#include <linux/landlock.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/capability.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define NOBODY 65534

/* ---- capabilities ---- */

/* Needs CAP_SETPCAP, so it comes before anything that loses it; without it no_new_privs has to do.
 */
static void drop_bounding(void)
{
	for (cap_value_t c = 0; cap_get_bound(c) >= 0; c++)
		(void)cap_drop_bound(c);
	(void)cap_reset_ambient();
}

/* Those of @keep that the process has. */
static int keep_caps(const cap_value_t *keep, size_t n, struct err *err)
{
	cap_t caps = cap_init(), have = cap_get_proc();
	int r = caps && have ? 0 : err_nomem(err);

	for (size_t i = 0; r == 0 && i < n; i++) {
		cap_flag_value_t v = CAP_CLEAR;

		if (cap_get_flag(have, keep[i], CAP_PERMITTED, &v) == 0 && v == CAP_SET) {
			cap_set_flag(caps, CAP_PERMITTED, 1, &keep[i], CAP_SET);
			cap_set_flag(caps, CAP_EFFECTIVE, 1, &keep[i], CAP_SET);
		}
	}
	if (r == 0 && cap_set_proc(caps) < 0)
		r = err_errno(err, errno, "drop capabilities");
	cap_free(caps);
	cap_free(have);
	return r;
}

static int no_new_privs(struct err *err)
{
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return err_errno(err, errno, "set no_new_privs");
	return 0;
}

static void limit(int what, rlim_t value)
{
	struct rlimit l;

	if (getrlimit(what, &l) < 0)
		return;
	l.rlim_cur = MIN(l.rlim_max, value);
	l.rlim_max = l.rlim_cur;
	(void)setrlimit(what, &l);
}

/* ---- Landlock ---- */

#define LL_WRITE                                                         \
	(LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_REMOVE_DIR | \
	 LANDLOCK_ACCESS_FS_REMOVE_FILE | LANDLOCK_ACCESS_FS_MAKE_CHAR | \
	 LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_MAKE_REG |     \
	 LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_MAKE_FIFO |   \
	 LANDLOCK_ACCESS_FS_MAKE_BLOCK | LANDLOCK_ACCESS_FS_MAKE_SYM | LANDLOCK_ACCESS_FS_REFER)
#define LL_READ (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)

static bool landlock_allow(int ruleset, int fd, uint64_t access)
{
	struct landlock_path_beneath_attr rule = {.allowed_access = access, .parent_fd = fd};

	return syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) == 0;
}

/* A ruleset over @handled; -1 where the kernel has none. Version 2 knows links between directories;
 * version 1 would forbid them. */
static int landlock_new(uint64_t handled)
{
	struct landlock_ruleset_attr attr = {.handled_access_fs = handled};
	long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);

	if (abi < 2)
		return -1;
	return (int)syscall(SYS_landlock_create_ruleset, &attr, sizeof(attr), 0);
}

/* None of @access to anything. */
static void landlock_nothing(uint64_t access)
{
	_cleanup_close_ int ruleset = landlock_new(access);

	if (ruleset >= 0)
		(void)syscall(SYS_landlock_restrict_self, ruleset, 0);
}

/* @access to @target_fd. */
static void landlock_trees(int target_fd, uint64_t access, const int *lower_fds, size_t n_lowers)
{
	_cleanup_close_ int ruleset = landlock_new(LL_WRITE | LL_READ | LANDLOCK_ACCESS_FS_EXECUTE);
	bool ok = ruleset >= 0 && landlock_allow(ruleset, target_fd, access);

	for (size_t i = 0; ok && i < n_lowers; i++)
		ok = landlock_allow(ruleset, lower_fds[i], LL_READ);
	if (ok)
		(void)syscall(SYS_landlock_restrict_self, ruleset, 0);
}

/* ---- system calls ---- */

static const int killed[] = {
	SCMP_SYS(execve),
	SCMP_SYS(execveat),
	SCMP_SYS(ptrace),
	SCMP_SYS(process_vm_readv),
	SCMP_SYS(process_vm_writev),
	SCMP_SYS(mount),
	SCMP_SYS(umount2),
	SCMP_SYS(pivot_root),
	SCMP_SYS(move_mount),
	SCMP_SYS(open_tree),
	SCMP_SYS(fsopen),
	SCMP_SYS(fsmount),
	SCMP_SYS(fsconfig),
	SCMP_SYS(fspick),
	SCMP_SYS(mount_setattr),
	SCMP_SYS(chroot),
	SCMP_SYS(unshare),
	SCMP_SYS(setns),
	SCMP_SYS(bpf),
	SCMP_SYS(init_module),
	SCMP_SYS(finit_module),
	SCMP_SYS(delete_module),
	SCMP_SYS(kexec_load),
	SCMP_SYS(reboot),
	SCMP_SYS(swapon),
	SCMP_SYS(open_by_handle_at),
	SCMP_SYS(userfaultfd),
	SCMP_SYS(io_uring_setup),
	SCMP_SYS(perf_event_open),
	SCMP_SYS(add_key),
	SCMP_SYS(request_key),
	SCMP_SYS(keyctl),
	SCMP_SYS(personality),
};

/* Memory, threads, time, descriptors that are open, looking at files. */
static const int common[] = {
	SCMP_SYS(read),
	SCMP_SYS(write),
	SCMP_SYS(readv),
	SCMP_SYS(writev),
	SCMP_SYS(pread64),
	SCMP_SYS(lseek),
	SCMP_SYS(close),
	SCMP_SYS(close_range),
	SCMP_SYS(dup),
	SCMP_SYS(dup2),
	SCMP_SYS(dup3),
	SCMP_SYS(fcntl),
	SCMP_SYS(fstat),
	SCMP_SYS(newfstatat),
	SCMP_SYS(stat),
	SCMP_SYS(lstat),
	SCMP_SYS(statx),
	SCMP_SYS(fstatfs),
	SCMP_SYS(statfs),
	SCMP_SYS(fadvise64),
	SCMP_SYS(getdents64),
	SCMP_SYS(access),
	SCMP_SYS(faccessat),
	SCMP_SYS(faccessat2),
	SCMP_SYS(readlink),
	SCMP_SYS(readlinkat),
	SCMP_SYS(getcwd),
	SCMP_SYS(poll),
	SCMP_SYS(ppoll),
	SCMP_SYS(select),
	SCMP_SYS(pselect6),
	SCMP_SYS(epoll_create1),
	SCMP_SYS(epoll_ctl),
	SCMP_SYS(epoll_wait),
	SCMP_SYS(epoll_pwait),
	SCMP_SYS(eventfd2),
	SCMP_SYS(pipe2),
	SCMP_SYS(pipe),
	SCMP_SYS(sendmsg),
	SCMP_SYS(recvmsg),
	SCMP_SYS(munmap),
	SCMP_SYS(mremap),
	SCMP_SYS(madvise),
	SCMP_SYS(brk),
	SCMP_SYS(mincore),
	SCMP_SYS(futex),
	SCMP_SYS(set_robust_list),
	SCMP_SYS(get_robust_list),
	SCMP_SYS(rseq),
	SCMP_SYS(set_tid_address),
	SCMP_SYS(sched_yield),
	SCMP_SYS(sched_getaffinity),
	SCMP_SYS(membarrier),
	SCMP_SYS(sched_getparam),
	SCMP_SYS(sched_getscheduler),
	SCMP_SYS(sched_setscheduler),
	SCMP_SYS(sched_get_priority_min),
	SCMP_SYS(sched_get_priority_max),
	SCMP_SYS(getcpu),
	SCMP_SYS(exit),
	SCMP_SYS(exit_group),
	SCMP_SYS(rt_sigaction),
	SCMP_SYS(rt_sigprocmask),
	SCMP_SYS(rt_sigreturn),
	SCMP_SYS(sigaltstack),
	SCMP_SYS(restart_syscall),
	SCMP_SYS(getpid),
	SCMP_SYS(gettid),
	SCMP_SYS(getppid),
	SCMP_SYS(getuid),
	SCMP_SYS(geteuid),
	SCMP_SYS(getgid),
	SCMP_SYS(getegid),
	SCMP_SYS(getrandom),
	SCMP_SYS(clock_gettime),
	SCMP_SYS(clock_getres),
	SCMP_SYS(clock_nanosleep),
	SCMP_SYS(nanosleep),
	SCMP_SYS(gettimeofday),
	SCMP_SYS(time),
	SCMP_SYS(uname),
	SCMP_SYS(sysinfo),
	SCMP_SYS(getrlimit),
	SCMP_SYS(getrusage),
	SCMP_SYS(prctl),
	SCMP_SYS(umask),
};

static const int for_fetch[] = {
	SCMP_SYS(socket),      SCMP_SYS(socketpair),  SCMP_SYS(connect),    SCMP_SYS(bind),
	SCMP_SYS(getsockname), SCMP_SYS(getpeername), SCMP_SYS(setsockopt), SCMP_SYS(getsockopt),
	SCMP_SYS(sendto),      SCMP_SYS(recvfrom),    SCMP_SYS(sendmmsg),   SCMP_SYS(recvmmsg),
	SCMP_SYS(shutdown),    SCMP_SYS(ioctl),	      SCMP_SYS(alarm),	    SCMP_SYS(setitimer),
};

static const int for_unpack[] = {
	SCMP_SYS(openat),	SCMP_SYS(openat2),	   SCMP_SYS(open),
	SCMP_SYS(mkdirat),	SCMP_SYS(mknodat),	   SCMP_SYS(unlinkat),
	SCMP_SYS(unlink),	SCMP_SYS(rmdir),	   SCMP_SYS(symlinkat),
	SCMP_SYS(linkat),	SCMP_SYS(renameat),	   SCMP_SYS(renameat2),
	SCMP_SYS(fchown),	SCMP_SYS(fchownat),	   SCMP_SYS(fchmod),
	SCMP_SYS(fchmodat),	SCMP_SYS(utimensat),	   SCMP_SYS(fsetxattr),
	SCMP_SYS(lsetxattr),	SCMP_SYS(setxattr),	   SCMP_SYS(fgetxattr),
	SCMP_SYS(lgetxattr),	SCMP_SYS(flistxattr),	   SCMP_SYS(llistxattr),
	SCMP_SYS(lremovexattr), SCMP_SYS(copy_file_range), SCMP_SYS(fchdir),
	SCMP_SYS(pwrite64),	SCMP_SYS(ftruncate),	   SCMP_SYS(fallocate),
	SCMP_SYS(recvfrom), /* control socket */
};

static const int for_pack[] = {
	SCMP_SYS(fchdir),     SCMP_SYS(fgetxattr),  SCMP_SYS(lgetxattr),
	SCMP_SYS(flistxattr), SCMP_SYS(llistxattr), SCMP_SYS(recvfrom), /* control socket */
};

static const int for_front[] = {
	SCMP_SYS(accept4),     SCMP_SYS(accept),      SCMP_SYS(recvfrom),
	SCMP_SYS(getsockname), SCMP_SYS(getpeername), SCMP_SYS(setsockopt),
	SCMP_SYS(getsockopt),  SCMP_SYS(shutdown),    SCMP_SYS(sendfile),
};

static const int for_recompress[] = {
	SCMP_SYS(recvfrom), /* control socket */
};

enum role { ROLE_FETCH, ROLE_UNPACK, ROLE_PACK, ROLE_FRONT, ROLE_RECOMPRESS };

static const struct {
	const int *calls;
	size_t n;
} by_role[] = {
	[ROLE_FETCH] = {for_fetch, ARRAY_LEN(for_fetch)},
	[ROLE_UNPACK] = {for_unpack, ARRAY_LEN(for_unpack)},
	[ROLE_PACK] = {for_pack, ARRAY_LEN(for_pack)},
	[ROLE_FRONT] = {for_front, ARRAY_LEN(for_front)},
	[ROLE_RECOMPRESS] = {for_recompress, ARRAY_LEN(for_recompress)},
};

static int add(scmp_filter_ctx f, uint32_t action, const int *calls, size_t n)
{
	int r = 0;

	/* A call that this architecture does not have is no failure (-EDOM and negative numbers are
	 * skipped by the library). */
	for (size_t i = 0; i < n && r == 0; i++)
		r = seccomp_rule_add(f, action, calls[i], 0);
	return r;
}

/* Threads but no processes: glibc falls back to clone() when clone3() is not there. */
static int add_threads(scmp_filter_ctx f)
{
	int r = seccomp_rule_add(f, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);

	if (r == 0)
		r = seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(clone), 1,
				     SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD | CLONE_VM,
					     CLONE_THREAD | CLONE_VM));
	return r;
}

/* Signals (abort, cancellation) and limits of the process itself, not those of others that have its
 * user. */
static int add_self(scmp_filter_ctx f)
{
	int r = seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1,
				 SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)getpid()));

	if (r == 0)
		r = seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(prlimit64), 1,
				     SCMP_A0(SCMP_CMP_EQ, 0));
	return r;
}

/* Memory that is not executable. The fetch role may map libraries (name services are loaded when
 * first used). */
static int add_memory(scmp_filter_ctx f, bool exec)
{
	int r;

	if (exec) {
		r = seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 0);
		if (r == 0)
			r = seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(mprotect), 0);
		return r;
	}
	r = seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 1,
			     SCMP_A2(SCMP_CMP_MASKED_EQ, 4 /* PROT_EXEC */, 0));
	if (r == 0)
		r = seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(mprotect), 1,
				     SCMP_A2(SCMP_CMP_MASKED_EQ, 4, 0));
	return r;
}

/* Sending on what is connected. */
static int add_send(scmp_filter_ctx f)
{
	return seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(sendto), 1, SCMP_A4(SCMP_CMP_EQ, 0));
}

/* Opening for reading only. */
static int add_open_readonly(scmp_filter_ctx f)
{
	const unsigned writing = O_ACCMODE | O_CREAT | O_TRUNC;
	int r = seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(openat), 1,
				 SCMP_A2(SCMP_CMP_MASKED_EQ, writing, O_RDONLY));

	if (r == 0)
		r = seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(open), 1,
				     SCMP_A1(SCMP_CMP_MASKED_EQ, writing, O_RDONLY));
	return r;
}

static int filter(enum role role, struct err *err)
{
	scmp_filter_ctx f = seccomp_init(SCMP_ACT_ERRNO(EPERM));
	int r;

	if (!f)
		return err_nomem(err);
	r = add(f, SCMP_ACT_KILL_PROCESS, killed, ARRAY_LEN(killed));
	if (r == 0)
		r = add(f, SCMP_ACT_ALLOW, common, ARRAY_LEN(common));
	if (r == 0)
		r = add(f, SCMP_ACT_ALLOW, by_role[role].calls, by_role[role].n);
	if (r == 0 && role != ROLE_FETCH)
		r = add_send(f);
	if (r == 0 && role == ROLE_FRONT)
		r = seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(socketpair), 1,
				     SCMP_A0(SCMP_CMP_EQ, AF_UNIX));
	if (r == 0 && (role == ROLE_FETCH || role == ROLE_PACK))
		r = add_open_readonly(f);
	if (r == 0)
		r = add_memory(f, role == ROLE_FETCH);
	if (r == 0)
		r = add_threads(f);
	if (r == 0)
		r = add_self(f);
	if (r == 0)
		r = seccomp_load(f);
	seccomp_release(f);
	return r == 0 ? 0 : err_errno(err, r, "load system call filter");
}

/* ---- the jails ---- */

static int become_nobody(struct err *err)
{
	if (geteuid() != 0)
		return 0;
	/* In a user namespace without these ids root without capabilities has to do. */
	if (setgroups(0, NULL) < 0 && errno != EPERM)
		return err_errno(err, errno, "drop groups");
	if (setresgid(NOBODY, NOBODY, NOBODY) < 0 && errno != EINVAL)
		return err_errno(err, errno, "set group");
	if (setresuid(NOBODY, NOBODY, NOBODY) < 0 && errno != EINVAL)
		return err_errno(err, errno, "set user");
	return 0;
}

static int give_up_all(struct err *err)
{
	int r;

	drop_bounding();
	r = become_nobody(err);
	if (r == 0)
		r = keep_caps(NULL, 0, err);
	if (r == 0)
		r = no_new_privs(err);
	if (r < 0)
		return r;
	(void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	limit(RLIMIT_CORE, 0);
#ifndef __SANITIZE_ADDRESS__ /* a report may have to go to a file */
	/* Not even what is open (standard error may be a file) grows. */
	signal(SIGXFSZ, SIG_IGN);
	limit(RLIMIT_FSIZE, 0);
#endif
	return 0;
}

int jail_fetch(struct err *err)
{
	int r = give_up_all(err);

	if (r < 0)
		return r;
	landlock_nothing(LL_WRITE | LANDLOCK_ACCESS_FS_EXECUTE);
	return filter(ROLE_FETCH, err);
}

int jail_front(struct err *err)
{
	int r;

	(void)unshare(CLONE_NEWNET);
	(void)unshare(CLONE_NEWIPC | CLONE_NEWUTS);
	r = give_up_all(err);
	if (r < 0)
		return r;
	landlock_nothing(LL_WRITE | LL_READ | LANDLOCK_ACCESS_FS_EXECUTE);
	return filter(ROLE_FRONT, err);
}

/* What unpack and pack share, up to the file system. */
static int enter_tree(int root_fd, const cap_value_t *caps, size_t n_caps, struct err *err)
{
	int r;

	(void)unshare(CLONE_NEWNET);
	(void)unshare(CLONE_NEWIPC | CLONE_NEWUTS);
	if (fchdir(root_fd) < 0)
		return err_errno(err, errno, "enter directory");
	/* Refused without CAP_SYS_CHROOT; all look-ups are relative to open directories anyway. */
	if (chroot(".") < 0 && errno != EPERM)
		return err_errno(err, errno, "change root directory");
	drop_bounding();
	r = keep_caps(caps, n_caps, err);
	if (r == 0)
		r = no_new_privs(err);
	if (r < 0)
		return r;
	(void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	limit(RLIMIT_CORE, 0);
	limit(RLIMIT_NOFILE, 8192);
	return 0;
}

int jail_unpack(int target_fd, const int *lower_fds, size_t n_lowers, bool sys_admin,
		struct err *err)
{
	static const cap_value_t caps[] = {
		CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_FOWNER,   CAP_FSETID,
		CAP_MKNOD, CAP_SETFCAP,	     CAP_SYS_ADMIN /* last: not always */};
	int r = enter_tree(target_fd, caps, ARRAY_LEN(caps) - !sys_admin, err);

	if (r < 0)
		return r;
	umask(0);
	landlock_trees(target_fd, LL_WRITE | LL_READ, lower_fds, n_lowers);
	return filter(ROLE_UNPACK, err);
}

int jail_pack(int upper_fd, const int *more_fds, size_t n, struct err *err)
{
	static const cap_value_t caps[] = {CAP_DAC_READ_SEARCH};
	int r = enter_tree(upper_fd, caps, ARRAY_LEN(caps), err);

	if (r < 0)
		return r;
	landlock_trees(upper_fd, LL_READ, more_fds, n);
	return filter(ROLE_PACK, err);
}

int jail_recompress(struct err *err)
{
	int r;

	(void)unshare(CLONE_NEWNET);
	(void)unshare(CLONE_NEWIPC | CLONE_NEWUTS);
	r = give_up_all(err);
	if (r < 0)
		return r;
	landlock_nothing(LL_WRITE | LL_READ | LANDLOCK_ACCESS_FS_EXECUTE);
	return filter(ROLE_RECOMPRESS, err);
}
