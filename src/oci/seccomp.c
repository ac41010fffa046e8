/* SPDX-License-Identifier: Apache-2.0 */
/* The default seccomp profile: what is in it, and what a capability adds.
 *
 * The system calls are those that containerd's own default profile lets through; all others fail
 * with EPERM, and clone3, whose flags a filter cannot see, with ENOSYS, so that libraries fall back
 * to clone. */
#include "oci/seccomp.h"

#include <errno.h>

#include "base/str.h"

/* CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID and NEWNET */
#define CLONE_NEW 0x7e020000
#define FAMILY_VSOCK 40

static const char always[] =
	"_llseek _newselect accept accept4 access adjtimex alarm bind brk cachestat capget "
	"capset chdir chmod chown chown32 clock_adjtime clock_adjtime64 clock_getres "
	"clock_getres_time64 clock_gettime clock_gettime64 clock_nanosleep "
	"clock_nanosleep_time64 close close_range connect copy_file_range creat dup dup2 dup3 "
	"epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait "
	"epoll_wait_old eventfd eventfd2 execve execveat exit exit_group faccessat faccessat2 "
	"fadvise64 fadvise64_64 fallocate fanotify_mark fchdir fchmod fchmodat fchmodat2 fchown "
	"fchown32 fchownat fcntl fcntl64 fdatasync fgetxattr flistxattr flock fork fremovexattr "
	"fsetxattr fstat fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 futex "
	"futex_requeue futex_time64 futex_wait futex_waitv futex_wake futimesat get_robust_list "
	"get_thread_area getcpu getcwd getdents getdents64 getegid getegid32 geteuid geteuid32 "
	"getgid getgid32 getgroups getgroups32 getitimer getpeername getpgid getpgrp getpid "
	"getppid getpriority getrandom getresgid getresgid32 getresuid getresuid32 getrlimit "
	"getrusage getsid getsockname getsockopt gettid gettimeofday getuid getuid32 getxattr "
	"getxattrat inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel "
	"io_destroy io_getevents io_pgetevents io_pgetevents_time64 io_setup io_submit ioctl "
	"ioprio_get ioprio_set ipc kill landlock_add_rule landlock_create_ruleset "
	"landlock_restrict_self lchown lchown32 lgetxattr link linkat listen listxattr "
	"listxattrat llistxattr lremovexattr lseek lsetxattr lstat lstat64 madvise "
	"map_shadow_stack membarrier memfd_create memfd_secret mincore mkdir mkdirat mknod "
	"mknodat mlock mlock2 mlockall mmap mmap2 mprotect mq_getsetattr mq_notify mq_open "
	"mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 mq_unlink "
	"mremap mseal msgctl msgget msgrcv msgsnd msync munlock munlockall munmap nanosleep "
	"newfstatat open openat openat2 pause pidfd_open pidfd_send_signal pipe pipe2 "
	"pkey_alloc pkey_free pkey_mprotect poll ppoll ppoll_time64 prctl pread64 preadv "
	"preadv2 prlimit64 process_mrelease pselect6 pselect6_time64 pwrite64 pwritev pwritev2 "
	"read readahead readlink readlinkat readv recv recvfrom recvmmsg recvmmsg_time64 "
	"recvmsg remap_file_pages removexattr removexattrat rename renameat renameat2 "
	"restart_syscall rmdir rseq rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo "
	"rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo "
	"sched_get_priority_max sched_get_priority_min sched_getaffinity sched_getattr "
	"sched_getparam sched_getscheduler sched_rr_get_interval sched_rr_get_interval_time64 "
	"sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield seccomp "
	"select semctl semget semop semtimedop semtimedop_time64 send sendfile sendfile64 "
	"sendmmsg sendmsg sendto set_robust_list set_thread_area set_tid_address setfsgid "
	"setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups setgroups32 setitimer setpgid "
	"setpriority setregid setregid32 setresgid setresgid32 setresuid setresuid32 setreuid "
	"setreuid32 setrlimit setsid setsockopt setuid setuid32 setxattr setxattrat shmat "
	"shmctl shmdt shmget shutdown sigaltstack signalfd signalfd4 sigprocmask sigreturn "
	"socketcall socketpair splice stat stat64 statfs statfs64 statx symlink symlinkat sync "
	"sync_file_range syncfs sysinfo tee tgkill time timer_create timer_delete "
	"timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64 "
	"timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64 "
	"times tkill truncate truncate64 ugetrlimit umask uname unlink unlinkat utime utimensat "
	"utimensat_time64 utimes vfork vmsplice wait4 waitid waitpid write writev";

/* Beside the above, with a capability. */
static const struct {
	const char *cap, *names;
} with_cap[] = {
	{"CAP_DAC_READ_SEARCH", "open_by_handle_at"},
	{"CAP_SYS_ADMIN", "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick "
			  "lookup_dcookie mount mount_setattr move_mount "
			  "name_to_handle_at open_tree perf_event_open quotactl quotactl_fd "
			  "setdomainname sethostname setns syslog umount umount2 "
			  "unshare"},
	{"CAP_SYS_BOOT", "reboot"},
	{"CAP_SYS_CHROOT", "chroot"},
	{"CAP_SYS_MODULE", "delete_module finit_module init_module"},
	{"CAP_SYS_PACCT", "acct"},
	{"CAP_SYS_PTRACE", "kcmp pidfd_getfd process_madvise process_vm_readv process_vm_writev"},
	{"CAP_SYS_RAWIO", "ioperm iopl"},
	{"CAP_SYS_TIME", "clock_settime clock_settime64 settimeofday stime"},
	{"CAP_SYS_TTY_CONFIG", "vhangup"},
	{"CAP_SYS_NICE", "get_mempolicy mbind set_mempolicy set_mempolicy_home_node"},
	{"CAP_SYSLOG", "syslog"},
	{"CAP_BPF", "bpf"},
	{"CAP_PERFMON", "perf_event_open"},
};

static json_t *name_list(struct arena *a, const char *names)
{
	json_t *list = json_array();
	char **v = str_split(a, names, ' ', NULL);
	for (; list && v && *v; v++)
		if (**v && json_array_append_new(list, json_string(*v)) < 0) {
			json_decref(list);
			return NULL;
		}
	return list;
}

/* Steals @args (NULL = none). @error 0 = allowed. */
static int rule(struct arena *a, json_t *rules, const char *names, json_t *args, int error)
{
	json_t *r = json_object();
	int bad = !r || json_object_set_new(r, "names", name_list(a, names)) < 0 ||
		  json_object_set_new(r, "action",
				      json_string(error ? "SCMP_ACT_ERRNO" : "SCMP_ACT_ALLOW")) < 0;
	if (!bad && error)
		bad = json_object_set_new(r, "errnoRet", json_integer(error)) < 0;
	if (!bad && args)
		bad = json_object_set(r, "args", args) < 0;
	json_decref(args);
	if (bad) {
		json_decref(r);
		return -ENOMEM;
	}
	return json_array_append_new(rules, r) < 0 ? -ENOMEM : 0;
}

static json_t *arg(unsigned int value, const char *op)
{
	return json_pack("[{s:i,s:I,s:s}]", "index", 0, "value", (json_int_t)value, "op", op);
}

static bool has_cap(const json_t *caps, const char *name)
{
	size_t i;
	json_t *c;
	json_array_foreach (caps, i, c)
		if (json_is_string(c) && streq(json_string_value(c), name))
			return true;
	return false;
}

static int fill(struct arena *a, json_t *rules, const json_t *caps)
{
	/* Of personality only what is harmless: Linux, 32-bit Linux, the same with UNAME26, and
	 * asking. */
	static const unsigned int personalities[] = {0, 0x8, 0x20000, 0x20008, 0xffffffff};
	int r = rule(a, rules, always, NULL, 0);
	if (r == 0)
		r = rule(a, rules, "ptrace", NULL, 0); /* safe since Linux 4.8 */
	if (r == 0)
		r = rule(a, rules, "socket", arg(FAMILY_VSOCK, "SCMP_CMP_NE"), 0);
	for (size_t i = 0; r == 0 && i < ARRAY_LEN(personalities); i++)
		r = rule(a, rules, "personality", arg(personalities[i], "SCMP_CMP_EQ"), 0);
#if defined(__x86_64__)
	if (r == 0)
		r = rule(a, rules, "arch_prctl modify_ldt", NULL, 0);
#elif defined(__aarch64__)
	if (r == 0)
		r = rule(a, rules,
			 "arm_fadvise64_64 arm_sync_file_range breakpoint cacheflush set_tls "
			 "sync_file_range2",
			 NULL, 0);
#endif
	for (size_t i = 0; r == 0 && i < ARRAY_LEN(with_cap); i++)
		if (has_cap(caps, with_cap[i].cap))
			r = rule(a, rules, with_cap[i].names, NULL, 0);
	if (r == 0 && !has_cap(caps, "CAP_SYS_ADMIN")) {
		r = rule(a, rules, "clone", arg(CLONE_NEW, "SCMP_CMP_MASKED_EQ"), 0);
		if (r == 0)
			r = rule(a, rules, "clone3", NULL, ENOSYS);
	}
	return r;
}

static json_t *architectures(void)
{
#if defined(__x86_64__)
	return json_pack("[s,s,s]", "SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32");
#elif defined(__aarch64__)
	return json_pack("[s,s]", "SCMP_ARCH_ARM", "SCMP_ARCH_AARCH64");
#else
	return json_array(); /* libseccomp's native one */
#endif
}

int seccomp_default(struct arena *a, const json_t *spec, json_t **ret, struct err *err)
{
	const json_t *caps =
		json_arr(json_obj(json_obj(spec, "process"), "capabilities"), "bounding");
	json_t *rules = json_array();
	json_t *profile = json_pack("{s:s,s:o?}", "defaultAction", "SCMP_ACT_ERRNO",
				    "architectures", architectures());
	if (!rules || !profile || fill(a, rules, caps) < 0 ||
	    json_object_set(profile, "syscalls", rules) < 0) {
		json_decref(rules);
		json_decref(profile);
		return err_nomem(err);
	}
	json_decref(rules);
	*ret = profile;
	return 0;
}
