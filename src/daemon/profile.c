/* SPDX-License-Identifier: Apache-2.0 */
/* Samples are taken by SIGPROF, which a timer over the process's CPU time sends to a thread that
 * uses some; the stacks of all threads by a signal to each. The unwinder of libgcc is safe in a
 * handler once it is loaded, which the first call outside of one sees to.
 *
 * The file: gzip with stored blocks, as nothing here compresses, around the message Profile of
 * https://github.com/google/pprof/blob/main/proto/profile.proto. */
#include "daemon/profile.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <inttypes.h>
#include <link.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/path.h"
#include "base/str.h"
#include "base/time.h"

#define HZ 100
#define DEPTH 48
#define HANDLER_FRAMES 2  /* the handler, and what the kernel returns to */
#define SAMPLES_MAX 65536 /* pages that are not used cost nothing */
#define THREAD_SIGNAL (SIGRTMIN + 6)
#define THREAD_NS (200 * NSEC_PER_MSEC)
#define STEP_NS (50 * NSEC_PER_MSEC)

struct stack {
	atomic_int n; /* frames; 0 = not whole */
	void *pc[DEPTH];
};

static pthread_mutex_t profiling = PTHREAD_MUTEX_INITIALIZER;

/* ---- CPU: samples ---- */

static struct stack *_Atomic samples; /* NULL = nobody looks */
static atomic_size_t n_samples;	      /* those that found no room are counted */
static atomic_int sampling;	      /* handlers that run */

static void on_prof(int signo)
{
	struct stack *all;
	int saved = errno;

	(void)signo;
	atomic_fetch_add(&sampling, 1);
	all = atomic_load(&samples);
	if (all) {
		size_t i = atomic_fetch_add(&n_samples, 1);

		if (i < SAMPLES_MAX)
			atomic_store(&all[i].n, backtrace(all[i].pc, DEPTH));
	}
	atomic_fetch_sub(&sampling, 1);
	errno = saved;
}

static int handle(int signo, void (*fn)(int signo))
{
	struct sigaction a = {.sa_handler = fn, .sa_flags = SA_RESTART};

	sigemptyset(&a.sa_mask);
	return sigaction(signo, &a, NULL) < 0 ? -errno : 0;
}

static void load_unwinder(void)
{
	void *pc[1];

	(void)backtrace(pc, 1);
}

static int timer_set(bool on)
{
	struct itimerval t = {.it_interval.tv_usec = on ? 1000000 / HZ : 0,
			      .it_value.tv_usec = on ? 1000000 / HZ : 0};

	return setitimer(ITIMER_PROF, &t, NULL) < 0 ? -errno : 0;
}

/* The handler stays: a signal may still be on its way, and without one it would end the process. */
static int sample(struct stack *all, int64_t ns, const atomic_bool *end)
{
	int64_t until = time_mono() + ns;
	int r = handle(SIGPROF, on_prof);

	load_unwinder();
	atomic_store(&n_samples, 0);
	atomic_store(&samples, all);
	if (r == 0)
		r = timer_set(true);
	while (r == 0 && !atomic_load(end) && time_mono() < until) {
		struct timespec step = {.tv_nsec = MIN(until - time_mono(), STEP_NS)};

		if (step.tv_nsec > 0)
			(void)nanosleep(&step, NULL);
	}
	(void)timer_set(false);
	atomic_store(&samples, NULL);
	while (atomic_load(&sampling) > 0)
		sched_yield();
	return r;
}

/* ---- CPU: the file ---- */

static void put_varint(struct buf *b, uint64_t v)
{
	for (; v >= 0x80; v >>= 7)
		buf_addc(b, (char)(v | 0x80));
	buf_addc(b, (char)v);
}

static void put_uint(struct buf *b, unsigned field, uint64_t v)
{
	put_varint(b, field << 3);
	put_varint(b, v);
}

static void put_bytes(struct buf *b, unsigned field, const void *p, size_t n)
{
	put_varint(b, field << 3 | 2);
	put_varint(b, n);
	buf_add(b, p, n);
}

/* Strings are numbered; 0 is "". */
struct strings {
	struct buf out; /* of field 6 */
	size_t n;
};

static uint64_t put_string(struct strings *s, const char *text)
{
	put_bytes(&s->out, 6, text, strlen(text));
	return s->n++;
}

static void put_value_type(struct buf *b, unsigned field, struct strings *s, const char *type,
			   const char *unit)
{
	_cleanup_buf_ struct buf m = BUF_INIT;

	put_uint(&m, 1, put_string(s, type));
	put_uint(&m, 2, put_string(s, unit));
	put_bytes(b, field, m.data, m.len);
}

/* What is mapped to be run. */
struct image {
	uint64_t start, end, offset;
	uint64_t base; /* where the file's address 0 would be */
	char file[256], build_id[64];
};

struct images {
	struct image v[64];
	size_t n;
};

static void find_build_id(const struct dl_phdr_info *info, char out[64])
{
	for (int i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *ph = &info->dlpi_phdr[i];
		const char *p = (const char *)info->dlpi_addr + ph->p_vaddr, *end = p + ph->p_memsz;

		while (ph->p_type == PT_NOTE && end - p >= (ptrdiff_t)sizeof(ElfW(Nhdr))) {
			const ElfW(Nhdr) *n = (const void *)p;
			const char *name = p + sizeof(*n);
			size_t name_n = (n->n_namesz + 3u) & ~3u, desc_n = (n->n_descsz + 3u) & ~3u;

			if ((size_t)(end - name) < name_n + desc_n)
				return;
			if (n->n_type == NT_GNU_BUILD_ID && n->n_namesz == 4 &&
			    memcmp(name, "GNU", 4) == 0 && n->n_descsz < 32) {
				hex_encode(name + name_n, n->n_descsz, out);
				return;
			}
			p = name + name_n + desc_n;
		}
	}
}

static int add_image(struct dl_phdr_info *info, size_t size, void *arg)
{
	struct images *all = arg;

	(void)size;
	for (int i = 0; i < info->dlpi_phnum && all->n < ARRAY_LEN(all->v); i++) {
		const ElfW(Phdr) *ph = &info->dlpi_phdr[i];
		struct image *m = &all->v[all->n];

		if (ph->p_type != PT_LOAD || !(ph->p_flags & PF_X))
			continue;
		*m = (struct image){.start = info->dlpi_addr + ph->p_vaddr,
				    .end = info->dlpi_addr + ph->p_vaddr + ph->p_memsz,
				    .offset = ph->p_offset,
				    .base = info->dlpi_addr};
		snprintf(m->file, sizeof(m->file), "%s", info->dlpi_name);
		if (!*m->file && readlink("/proc/self/exe", m->file, sizeof(m->file) - 1) < 0)
			strcpy(m->file, "containerd");
		find_build_id(info, m->build_id);
		all->n++;
	}
	return 0;
}

static const struct image *find_image(const struct images *all, uint64_t pc)
{
	for (size_t i = 0; i < all->n; i++)
		if (pc >= all->v[i].start && pc < all->v[i].end)
			return &all->v[i];
	return NULL;
}

static void put_images(struct buf *b, const struct images *all, struct strings *s)
{
	for (size_t i = 0; i < all->n; i++) {
		_cleanup_buf_ struct buf m = BUF_INIT;

		put_uint(&m, 1, i + 1);
		put_uint(&m, 2, all->v[i].start);
		put_uint(&m, 3, all->v[i].end);
		put_uint(&m, 4, all->v[i].offset);
		put_uint(&m, 5, put_string(s, all->v[i].file));
		put_uint(&m, 6, put_string(s, all->v[i].build_id));
		put_bytes(b, 3, m.data, m.len);
	}
}

static int by_address(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* Return addresses are behind the call that counts. */
static uint64_t frame_address(const struct stack *s, int i)
{
	return (uint64_t)(uintptr_t)s->pc[i] - (i > HANDLER_FRAMES);
}

/* Sorted, each once: the numbers of locations are places in it. */
static size_t collect_addresses(const struct stack *all, size_t n, uint64_t *out)
{
	size_t k = 0, kept = 0;

	for (size_t i = 0; i < n; i++)
		for (int j = HANDLER_FRAMES; j < all[i].n; j++)
			out[k++] = frame_address(&all[i], j);
	qsort(out, k, sizeof(*out), by_address);
	for (size_t i = 0; i < k; i++)
		if (kept == 0 || out[kept - 1] != out[i])
			out[kept++] = out[i];
	return kept;
}

static void put_locations(struct buf *b, const uint64_t *addresses, size_t n,
			  const struct images *images)
{
	for (size_t i = 0; i < n; i++) {
		const struct image *m = find_image(images, addresses[i]);
		_cleanup_buf_ struct buf l = BUF_INIT;

		put_uint(&l, 1, i + 1);
		if (m)
			put_uint(&l, 2, (uint64_t)(m - images->v) + 1);
		put_uint(&l, 3, addresses[i]);
		put_bytes(b, 4, l.data, l.len);
	}
}

static void put_sample(struct buf *b, const struct stack *s, const uint64_t *addresses, size_t n)
{
	_cleanup_buf_ struct buf ids = BUF_INIT, m = BUF_INIT;
	static const char values[] = {1}; /* one sample; its time follows */

	for (int i = HANDLER_FRAMES; i < s->n; i++) {
		uint64_t a = frame_address(s, i);
		const uint64_t *p = bsearch(&a, addresses, n, sizeof(a), by_address);

		put_varint(&ids, (uint64_t)(p - addresses) + 1);
	}
	put_bytes(&m, 1, ids.data, ids.len);
	buf_clear(&ids);
	buf_add(&ids, values, sizeof(values));
	put_varint(&ids, 1000000000 / HZ);
	put_bytes(&m, 2, ids.data, ids.len);
	put_bytes(b, 2, m.data, m.len);
}

static int encode(const struct stack *all, size_t n, int64_t took, struct buf *b)
{
	_cleanup_free_ uint64_t *addresses = malloc((n * DEPTH + 1) * sizeof(*addresses));
	_cleanup_free_ struct images *images = calloc(1, sizeof(*images));
	_cleanup_buf_ struct buf text = BUF_INIT;
	struct strings s = {.out = BUF_INIT};
	struct timespec now = time_now();
	size_t k;

	if (!addresses || !images)
		return -ENOMEM;
	(void)put_string(&s, "");
	put_value_type(b, 1, &s, "samples", "count");
	put_value_type(b, 1, &s, "cpu", "nanoseconds");
	dl_iterate_phdr(add_image, images);
	k = collect_addresses(all, n, addresses);
	for (size_t i = 0; i < n; i++)
		if (all[i].n > HANDLER_FRAMES)
			put_sample(b, &all[i], addresses, k);
	put_images(b, images, &s);
	put_locations(b, addresses, k, images);
	put_value_type(b, 11, &s, "cpu", "nanoseconds");
	text = s.out;
	buf_add(b, text.data, text.len);
	put_uint(b, 9, (uint64_t)now.tv_sec * NSEC_PER_SEC + (uint64_t)now.tv_nsec);
	put_uint(b, 10, (uint64_t)took);
	put_uint(b, 12, 1000000000 / HZ);
	return buf_ok(b) ? 0 : -ENOMEM;
}

static uint32_t crc32_of(const void *data, size_t n)
{
	const uint8_t *p = data;
	uint32_t crc = ~0u;

	while (n-- > 0) {
		crc ^= *p++;
		for (int i = 0; i < 8; i++)
			crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
	}
	return ~crc;
}

static void put_le(struct buf *b, uint32_t v, int bytes)
{
	for (; bytes > 0; bytes--, v >>= 8)
		buf_addc(b, (char)v);
}

/* https://www.rfc-editor.org/rfc/rfc1952 */
static void gzip_stored(struct buf *b, const char *p, size_t n)
{
	static const char head[] = {0x1f, (char)0x8b, 8, 0, 0, 0, 0, 0, 0, (char)0xff};
	size_t off = 0;

	buf_add(b, head, sizeof(head));
	do {
		size_t k = MIN(n - off, (size_t)0xffff);

		buf_addc(b, off + k == n);
		put_le(b, (uint32_t)k, 2);
		put_le(b, ~(uint32_t)k, 2);
		buf_add(b, p + off, k);
		off += k;
	} while (off < n);
	put_le(b, crc32_of(p, n), 4);
	put_le(b, (uint32_t)n, 4);
}

int profile_cpu(int64_t ns, const atomic_bool *end, struct buf *b, struct err *err)
{
	_cleanup_buf_ struct buf plain = BUF_INIT;
	struct stack *all;
	int64_t began = time_mono();
	int r;

	if (pthread_mutex_trylock(&profiling) != 0)
		return err_set(err, ERR_FAILED_PRECONDITION, "there is a profile in the making");
	all = calloc(SAMPLES_MAX, sizeof(*all));
	r = all ? sample(all, ns, end) : -ENOMEM;
	if (r == 0)
		r = encode(all, MIN(atomic_load(&n_samples), (size_t)SAMPLES_MAX),
			   time_mono() - began, &plain);
	free(all);
	pthread_mutex_unlock(&profiling);
	if (r < 0)
		return err_errno(err, r, "profile");
	gzip_stored(b, plain.data, plain.len);
	return buf_ok(b) ? 0 : err_nomem(err);
}

/* ---- threads ---- */

static struct stack asked;
static sem_t answered;
static atomic_int asked_tid;

static void on_ask(int signo)
{
	int saved = errno, tid = (int)gettid();

	(void)signo;
	/* One that is too late is not waited for any more. */
	if (atomic_compare_exchange_strong(&asked_tid, &tid, 0)) {
		atomic_store(&asked.n, backtrace(asked.pc, DEPTH));
		sem_post(&answered);
	}
	errno = saved;
}

void profile_address(struct buf *b, const void *address)
{
	Dl_info i;

	if (!dladdr(address, &i)) {
		buf_printf(b, "%p", address);
		return;
	}
	if (i.dli_sname)
		buf_printf(b, "%s+0x%tx (%s)", i.dli_sname,
			   (const char *)address - (const char *)i.dli_saddr, i.dli_fname);
	else
		buf_printf(b, "%s+0x%tx", i.dli_fname,
			   (const char *)address - (const char *)i.dli_fbase);
}

static void put_stack(struct buf *b, int tid)
{
	struct timespec until = time_now();
	int r;

	until.tv_nsec += THREAD_NS;
	until.tv_sec += until.tv_nsec / NSEC_PER_SEC;
	until.tv_nsec %= NSEC_PER_SEC;
	atomic_store(&asked.n, 0);
	atomic_store(&asked_tid, tid);
	if (syscall(SYS_tgkill, getpid(), tid, THREAD_SIGNAL) < 0) {
		atomic_store(&asked_tid, 0);
		return;
	}
	do
		r = sem_clockwait(&answered, CLOCK_REALTIME, &until);
	while (r < 0 && errno == EINTR);
	if (r < 0 && atomic_compare_exchange_strong(&asked_tid, &tid, 0)) {
		buf_adds(b, "\t(does not answer)\n");
		return;
	}
	if (r < 0)
		sem_wait(&answered);
	for (int i = HANDLER_FRAMES; i < atomic_load(&asked.n); i++) {
		buf_addc(b, '\t');
		profile_address(b, asked.pc[i]);
		buf_addc(b, '\n');
	}
}

/* Without the line's end; "" when there is none. */
static const char *task_file(struct arena *a, const char *tid, const char *name)
{
	char path[96], *text;
	size_t n;

	snprintf(path, sizeof(path), "/proc/self/task/%.16s/%s", tid, name);
	if (file_read(a, AT_FDCWD, path, 4096, &text, &n) < 0)
		return "";
	text[strcspn(text, "\n")] = '\0';
	return text;
}

static void put_thread(struct buf *b, const char *tid)
{
	_cleanup_arena_ struct arena *a = arena_new(0);
	const char *stat = a ? task_file(a, tid, "stat") : "", *state = strrchr(stat, ')');

	if (!a)
		return;
	buf_printf(b, "thread %s %s [%c", tid, task_file(a, tid, "comm"),
		   state && state[1] ? state[2] : '?');
	if (*task_file(a, tid, "wchan") > '0')
		buf_printf(b, ", %s", task_file(a, tid, "wchan"));
	buf_adds(b, "]:\n");
	put_stack(b, atoi(tid));
	buf_addc(b, '\n');
}

int profile_threads(struct buf *b, struct err *err)
{
	_cleanup_closedir_ DIR *dir = opendir("/proc/self/task");
	int r = dir ? 0 : -errno;

	if (pthread_mutex_trylock(&profiling) != 0)
		return err_set(err, ERR_FAILED_PRECONDITION, "there is a profile in the making");
	load_unwinder();
	if (r == 0)
		r = handle(THREAD_SIGNAL, on_ask);
	if (r == 0 && sem_init(&answered, 0, 0) < 0)
		r = -errno;
	for (struct dirent *e; r == 0 && (e = readdir(dir));)
		if (e->d_name[0] != '.')
			put_thread(b, e->d_name);
	pthread_mutex_unlock(&profiling);
	if (r < 0)
		return err_errno(err, r, "look at the threads");
	return buf_ok(b) ? 0 : err_nomem(err);
}
