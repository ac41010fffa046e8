/* SPDX-License-Identifier: Apache-2.0 */
/* What the labels of the restart monitor mean: see monitor.h. */
#include "base/str.h"
#include "base/time.h"
#include "plugins/restart/labels.h"
#include "plugins/restart/monitor.h"

#define PAUSE_MIN_NS NSEC_PER_SEC
/* What ran that long is no crash loop. */
#define STEADY_NS (10 * NSEC_PER_SEC)

static int parse_retries(const char *policy, const char *text, int64_t *ret, struct err *err)
{
	int64_t n;
	if (str_to_i64(text, 10, &n) < 0 || n < 0)
		return err_set(err, ERR_INVALID_ARGUMENT,
			       "restart policy \"%s\": invalid max retry count: %s", policy, text);
	*ret = n;
	return 0;
}

int restart_policy_parse(const char *text, struct restart_policy *ret, struct err *err)
{
	static const struct {
		const char *name;
		enum restart_kind kind;
	} names[] = {{"", RESTART_ALWAYS},
		     {"no", RESTART_NO},
		     {"always", RESTART_ALWAYS},
		     {"on-failure", RESTART_ON_FAILURE},
		     {"unless-stopped", RESTART_UNLESS_STOPPED}};
	struct restart_policy p = {.kind = RESTART_NO};
	size_t len = strcspn(text, ":"), i = 0;
	while (i < ARRAY_LEN(names) &&
	       (strlen(names[i].name) != len || strncmp(names[i].name, text, len) != 0))
		i++;
	if (i == ARRAY_LEN(names))
		return err_set(err, ERR_INVALID_ARGUMENT, "restart policy \"%s\" not supported",
			       text);
	p.kind = names[i].kind;
	if (text[len] && p.kind != RESTART_ON_FAILURE)
		return err_set(err, ERR_INVALID_ARGUMENT,
			       "restart policy \"%s\" not support max retry count", text);
	if (text[len]) {
		int r = parse_retries(text, text + len + 1, &p.max_retries, err);
		if (r < 0)
			return r;
	}
	*ret = p;
	return 0;
}

/* As Go reads a boolean; what is none counts as false. */
static bool is_true(const char *s)
{
	static const char *const words[] = {"1", "t", "T", "true", "TRUE", "True"};
	for (size_t i = 0; s && i < ARRAY_LEN(words); i++)
		if (streq(s, words[i]))
			return true;
	return false;
}

int64_t restart_count(const struct labels *l)
{
	const char *text = labels_get(l, RESTART_COUNT);
	int64_t n;
	return text && str_to_i64(text, 10, &n) == 0 && n > 0 ? n : 0;
}

int restart_wanted(const struct labels *l, uint32_t exit_status, struct err *err)
{
	struct restart_policy p;
	const char *text = labels_get(l, RESTART_POLICY);
	int r = restart_policy_parse(text ? text : "", &p, err);
	if (r < 0)
		return r;
	switch (p.kind) {
	case RESTART_NO:
		return 0;
	case RESTART_ALWAYS:
		return 1;
	case RESTART_ON_FAILURE:
		return exit_status != 0 && (p.max_retries == 0 || restart_count(l) < p.max_retries);
	case RESTART_UNLESS_STOPPED:
		return !is_true(labels_get(l, RESTART_EXPLICITLY_STOPPED));
	}
	return 0;
}

int64_t restart_pause(int64_t last_ns, int64_t ran_ns, int64_t interval_ns)
{
	int64_t pause = ran_ns >= STEADY_NS || last_ns <= 0 ? PAUSE_MIN_NS : last_ns * 2;
	return MIN(pause, interval_ns);
}
