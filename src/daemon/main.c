/* SPDX-License-Identifier: Apache-2.0 */
/* containerd: the command line of the daemon.
 *
 * Options stand before the command and may be written with one dash or two, as Go programs take
 * them. Commands are a table, from which help is printed.
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "daemon/commands.h"
#include "daemon/config.h"
#include "daemon/daemon.h"
#include "version.h"

#define ADDRESS_DEFAULT "/run/containerd/containerd.sock"
#define EXIT_USAGE 3 /* as containerd exits for an unknown command */

struct options {
	const char *config; /* NULL = not given */
	struct config_flags flags;
};

struct command {
	const char *name, *help;
	const struct command *sub; /* ends with an empty name */
	int (*run)(const struct options *o, char **args, struct err *err); /* what follows */
};

static int print_config(const struct config *c, struct err *err)
{
	_cleanup_buf_ struct buf b = BUF_INIT;
	int r;

	config_print(c, &b);
	if (!buf_ok(&b))
		return err_nomem(err);
	r = fd_write_full(STDOUT_FILENO, b.data, b.len);
	return r < 0 ? err_errno(err, r, "write the configuration") : 0;
}

static void log_warnings(const struct config *c)
{
	for (size_t i = 0; i < c->warnings_n; i++)
		log_warn("%s", c->warnings[i]);
}

static int run_config_default(const struct options *o, char **args, struct err *err)
{
	_cleanup_config_ struct config *c = NULL;
	int r;

	(void)o;
	r = config_default(&c, err);
	return r < 0 ? r : print_config(c, err);
}

static int run_config_dump(const struct options *o, char **args, struct err *err)
{
	_cleanup_config_ struct config *c = NULL;
	int r;

	r = config_load(o->config, true, NULL, &c, err);
	if (r < 0)
		return r;
	log_warnings(c);
	return print_config(c, err);
}

static int run_daemon(const struct options *o, struct err *err)
{
	_cleanup_config_ struct config *c = NULL;
	enum log_level level = LOG_INFO;
	int r;

	r = config_load(o->config, false, &o->flags, &c, err);
	if (r < 0)
		return r;
	if (*c->log_level && log_level_parse(c->log_level, &level) < 0)
		return err_set(
			err, ERR_INVALID_ARGUMENT,
			"log level `%s` is none of trace, debug, info, warn, error, fatal, panic",
			c->log_level);
	log_setup(level, streq(c->log_format, "json"));
	log_warnings(c);
	return daemon_run(c, err);
}

static int run_publish(const struct options *o, char **args, struct err *err)
{
	return command_publish(str_or(o->flags.address, ADDRESS_DEFAULT), args, err);
}

static int run_oci_hook(const struct options *o, char **args, struct err *err)
{
	return command_oci_hook(args, err);
}

static const struct command config_commands[] = {
	{.name = "default", .help = "print the default configuration", .run = run_config_default},
	{.name = "dump",
	 .help = "print the configuration with its imports over the defaults",
	 .run = run_config_dump},
	{.name = "migrate",
	 .help = "print the configuration as the newest version",
	 .run = run_config_dump},
	{.name = NULL},
};

static const struct command commands[] = {
	{.name = "config", .help = "information on the configuration", .sub = config_commands},
	{.name = "publish",
	 .help = "publish the event on standard input (--namespace, --topic)",
	 .run = run_publish},
	{.name = "oci-hook",
	 .help = "run a program as a hook, with the container's values in its arguments",
	 .run = run_oci_hook},
	{.name = NULL},
};

static const struct {
	char letter;
	const char *name, *argument, *help;
} options[] = {
	{'c', "config", "FILE", "configuration file (default " CONFIG_PATH_DEFAULT ")"},
	{'l', "log-level", "LEVEL", "trace, debug, info, warn, error, fatal or panic"},
	{'a', "address", "ADDRESS", "socket of the gRPC server"},
	{'R', "root", "DIR", "directory of what persists"},
	{'S', "state", "DIR", "directory of what ends with the boot"},
	{'v', "version", NULL, "print the version"},
	{'h', "help", NULL, "print this"},
};

static void print_commands(FILE *f, const struct command *list)
{
	fprintf(f, "\nCommands:\n");
	for (; list->name; list++)
		fprintf(f, "  %-24s %s\n", list->name, list->help);
}

static void print_help(FILE *f)
{
	fprintf(f, "Usage: containerd [OPTION]... [COMMAND]\n\n"
		   "Runs the daemon, or COMMAND.\n\nOptions:\n");
	for (size_t i = 0; i < ARRAY_LEN(options); i++) {
		char text[64];

		/* root and state have no letter */
		if (options[i].letter >= 'a')
			snprintf(text, sizeof(text), "-%c, --%s %s", options[i].letter,
				 options[i].name, options[i].argument ? options[i].argument : "");
		else
			snprintf(text, sizeof(text), "    --%s %s", options[i].name,
				 options[i].argument);
		fprintf(f, "  %-24s %s\n", text, options[i].help);
	}
	print_commands(f, commands);
}

static void print_command_help(FILE *f, const struct command *c)
{
	fprintf(f, "containerd %s: %s\n", c->name, c->help);
	if (c->sub)
		print_commands(f, c->sub);
}

static bool is_help(const char *arg)
{
	return streq(arg, "help") || streq(arg, "h") || streq(arg, "--help") ||
	       streq(arg, "-help") || streq(arg, "-h");
}

static const struct command *find_command(const struct command *list, const char *name)
{
	for (; list->name; list++)
		if (streq(list->name, name))
			return list;
	return NULL;
}

static int report(int r, const struct err *err)
{
	if (r < 0)
		fprintf(stderr, "containerd: %s\n", err->text);
	return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* @args: what follows the options, NULL-terminated, not empty. */
static int run_command(const struct options *o, char **args)
{
	const struct command *c = find_command(commands, args[0]), *sub;
	struct err err = ERR_INIT;

	if (is_help(args[0])) {
		c = args[1] ? find_command(commands, args[1]) : NULL;
		if (c)
			print_command_help(stdout, c);
		else
			print_help(stdout);
		return EXIT_SUCCESS;
	}
	if (!c) {
		fprintf(stderr, "No help topic for '%s'\n", args[0]);
		return EXIT_USAGE;
	}
	if (!c->sub)
		return report(c->run(o, args + 1, &err), &err);
	if (!args[1] || is_help(args[1])) {
		print_command_help(stdout, c);
		return EXIT_SUCCESS;
	}
	sub = find_command(c->sub, args[1]);
	if (!sub) {
		fprintf(stderr, "No help topic for '%s'\n", args[1]);
		return EXIT_USAGE;
	}
	if (args[2] && is_help(args[2])) {
		print_command_help(stdout, sub);
		return EXIT_SUCCESS;
	}
	return report(sub->run(o, args + 2, &err), &err);
}

static void print_version(void)
{
	printf("containerd %s %s %s\n", PACKAGE, VERSION, REVISION);
}

/* -1 = go on, else the exit status. */
static int take_option(int c, struct options *o)
{
	switch (c) {
	case 'c':
		o->config = optarg;
		return -1;
	case 'l':
		o->flags.log_level = optarg;
		return -1;
	case 'a':
		o->flags.address = optarg;
		return -1;
	case 'R':
		o->flags.root = optarg;
		return -1;
	case 'S':
		o->flags.state = optarg;
		return -1;
	case 'v':
		print_version();
		return EXIT_SUCCESS;
	case 'h':
		print_help(stdout);
		return EXIT_SUCCESS;
	default:
		return EXIT_FAILURE; /* getopt has named the option */
	}
}

int main(int argc, char **argv)
{
	struct option known[ARRAY_LEN(options) + 1] = {0};
	struct options o = {0};
	struct err err = ERR_INIT;
	int c, status;

	for (size_t i = 0; i < ARRAY_LEN(options); i++) {
		known[i] = (struct option){.name = options[i].name,
					   .has_arg = options[i].argument ? required_argument
									  : no_argument,
					   .val = options[i].letter};
	}
	while ((c = getopt_long_only(argc, argv, "+c:l:a:vh", known, NULL)) != -1) {
		status = take_option(c, &o);
		if (status >= 0)
			return status;
	}
	log_setup(LOG_INFO, false);
	if (optind < argc)
		return run_command(&o, argv + optind);
	return report(run_daemon(&o, &err), &err);
}
