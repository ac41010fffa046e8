/* SPDX-License-Identifier: Apache-2.0 */
/* Plugins: const descriptors in one table, and the set of those that were started.
 *
 * A plugin requires types; every plugin of these types is started before it. Each ends as ok, skip
 * or error, and the daemon goes on unless the plugin is in required_plugins. What a plugin made is
 * its instance, which others look up by type and id.
 *
 * Threads: a set is built by one thread; when plugins_start() has returned it does not change until
 * plugins_stop() and may be read by any.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/err.h"
#include "base/labels.h"
#include "daemon/config_field.h"

#define PLUGIN_TYPE(x) "io.containerd." x

struct config;
struct plugin_init;
struct plugin_set;

typedef int plugin_init_fn(struct plugin_init *in, struct err *err);

struct plugin {
	const char *type, *id;
	const char *const *requires; /* types, NULL-terminated; NULL = none */
	bool host_platform;	     /* has the host's platform; else none is told */
	bool essential; /* without it the daemon does not start, whatever required_plugins says */
	/* "key=value", NULL-terminated. `${root}` in a value is the plugin's directory, `${a.b}` a
	 * value of its configuration. They are told whether the plugin starts or not; its init may
	 * add to them and replace them. */
	const char *const *exports;
	const char *const *capabilities;   /* NULL-terminated; its init may replace them */
	const struct config_field *config; /* NULL: it has no configuration */
	/* 0, or an error. -ERR_UNIMPLEMENTED, or a text with "skip plugin" in it: the plugin is
	 * left out (see plugin_skip()). NULL: not implemented. */
	plugin_init_fn *init;
};

enum plugin_status { PLUGIN_OK, PLUGIN_SKIP, PLUGIN_ERROR };

/* One plugin of a set, as introspection tells it. */
struct plugin_state {
	const struct plugin *plugin;
	enum plugin_status status;
	const char *error;	      /* text; NULL when ok */
	enum err_kind kind;	      /* of the error; 0 when ok, unknown when skipped */
	const char *platform;	      /* "linux/amd64"; NULL = none */
	const char *const *platforms; /* instead, NULL-terminated: its init may set them */
	struct labels exports;
	const char *const *capabilities; /* NULL-terminated, never NULL */
	void *instance;
	void (*stop)(void *instance);
};

/* What an init function gets, and where it leaves what it made. Valid during the call only, but for
 * what says otherwise. */
struct plugin_init {
	void *daemon;
	const struct config *config;
	const struct plugin *plugin;
	const struct toml_value
		*values; /* its table of the configuration, complete; NULL = it has none */
	struct plugin_set *set;
	struct arena *arena;	   /* of the set */
	const char *root, *state;  /* <root>/<type>.<id> and <state>/<type>.<id>, not made yet; live
				      as long as the set */
	struct plugin_state *self; /* to be read */
	/* Set by init: */
	void *instance;
	void (*stop)(void *instance); /* called by plugins_stop() for a plugin that is ok */
};

/* The table of all plugins, in their load order. */
extern const struct plugin plugin_table[];
extern const size_t plugin_table_n;

/* "type.id"; NULL = no memory. */
const char *plugin_uri(struct arena *a, const struct plugin *p);
/* By URI; NULL when there is none. */
const struct plugin *plugin_find(const struct plugin *table, size_t n, const char *uri);

/* Starts the plugins of @table and those of proxy_plugins in @config, without the disabled ones.
 *
 * @proxy_init  starts a plugin of proxy_plugins (see plugin_proxy_config()); NULL = they are
 * skipped
 *
 * @ret  also after a failure, with those that were started until then, which what runs meanwhile
 * (the loop, the pool) may still use: the caller stops them as at any other end. NULL when there
 *       are none
 *
 * -ERR_NOT_FOUND  "required plugin [..] not included"; any other: what made a required plugin fail
 */
int plugins_start(const struct plugin *table, size_t n, const struct config *config, void *daemon,
		  plugin_init_fn *proxy_init, struct plugin_set **ret,
		  struct err *err) _must_check_;
/* In reverse order; frees the set. */
void plugins_stop(struct plugin_set *set);

/* In load order. */
size_t plugins_count(const struct plugin_set *set);
const struct plugin_state *plugins_at(const struct plugin_set *set, size_t i);

/* Instances of others, for init functions and for the daemon afterwards. A plugin that failed gives
 * its error.
 *
 * -ERR_NOT_FOUND  "no plugins registered for TYPE: plugin: not found" */
int plugin_get(const struct plugin_set *set, const char *type, const char *id, void **ret,
	       struct err *err) _must_check_;
/* The first of a type that is ok. */
int plugin_get_first(const struct plugin_set *set, const char *type, void **ret,
		     struct err *err) _must_check_;
/* The next of @type that is ok after @last (NULL = the first); NULL at the end. */
const struct plugin_state *plugin_next(const struct plugin_set *set, const char *type,
				       const struct plugin_state *last);

/* For init functions: fails so that the plugin is skipped, with "<reason>: skip plugin". */
int plugin_skip(struct err *err, const char *fmt, ...) _printf_(2, 3);
/* Adds or replaces an export. 0 or -ERR_RESOURCE_EXHAUSTED. */
int plugin_export(struct plugin_init *in, const char *key, const char *value,
		  struct err *err) _must_check_;
/* Replaces the capabilities by the @n given ones, which are copied. */
int plugin_set_capabilities(struct plugin_init *in, const char *const *capabilities, size_t n,
			    struct err *err) _must_check_;

/* The plugin's configuration by dotted path, as config_get_*(). Strings live as long as the
 * configuration, arrays as the set. */
const char *cfg_str(const struct plugin_init *in, const char *path);
bool cfg_bool(const struct plugin_init *in, const char *path);
int64_t cfg_int(const struct plugin_init *in, const char *path);
size_t cfg_size(const struct plugin_init *in, const char *path); /* 0 when it is below */
double cfg_float(const struct plugin_init *in, const char *path);
int64_t cfg_duration(const struct plugin_init *in, const char *path);
const char *const *cfg_strings(const struct plugin_init *in,
			       const char *path); /* NULL = no memory */
/* The entry of proxy_plugins that the plugin being started comes from; NULL for one of the table.
 */
const struct toml_value *plugin_proxy_config(const struct plugin_init *in);
