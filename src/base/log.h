/* SPDX-License-Identifier: Apache-2.0 */
/* The log, on standard error. Text form: time="RFC3339Nano" level=info msg="..." key=value; JSON
 * form: one object a line with level, msg, time and the fields. One write(2) a line, so lines of
 * several threads and processes do not mix. Only services/, the loop, main and the shim's main log;
 * libraries report errors. Thread safe. */
#pragma once

#include <stdbool.h>

#include "base/cleanup.h"

enum log_level { LOG_TRACE, LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR, LOG_FATAL, LOG_PANIC };

/* Level by name (trace, debug, info, warn, warning, error, fatal, panic); -EINVAL. */
int log_level_parse(const char *s, enum log_level *ret);
const char *log_level_name(enum log_level l);
void log_setup(enum log_level level, bool json);
/* Where lines go instead of fd 2 (not owned). */
void log_set_fd(int fd);
enum log_level log_level_get(void);

/* @fields: NULL-terminated pairs of key and value, or NULL. */
void log_write(enum log_level level, const char *const *fields, const char *fmt, ...)
	_printf_(3, 4);

#define LOG_FIELDS(...) ((const char *const[]){__VA_ARGS__, NULL})
#define log_at(level, fields, ...)                             \
	do {                                                   \
		if ((level) >= log_level_get())                \
			log_write(level, fields, __VA_ARGS__); \
	} while (0)
#define log_trace(...) log_at(LOG_TRACE, NULL, __VA_ARGS__)
#define log_debug(...) log_at(LOG_DEBUG, NULL, __VA_ARGS__)
#define log_info(...) log_at(LOG_INFO, NULL, __VA_ARGS__)
#define log_warn(...) log_at(LOG_WARN, NULL, __VA_ARGS__)
#define log_error(...) log_at(LOG_ERROR, NULL, __VA_ARGS__)
