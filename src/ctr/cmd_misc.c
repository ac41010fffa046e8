/* SPDX-License-Identifier: Apache-2.0 */
/* ctr version, info, deprecations, oci. */
#include "base/time.h"
#include "ctr/commands.h"
#include "ctr/listing.h"
#include "oci/platform.h"
#include "oci/spec.h"
#include "version.h"

/* ---- version ---- */

static int print_version_text(const PB_VERSION(VersionResponse) * v,
			      const PB_INTROSPECTION(ServerResponse) * server)
{
	printf("Server:\n  Version:  %s\n  Revision: %s\n  UUID: %s\n", v->version, v->revision,
	       server->uuid);
	fflush(stdout);
	if (!streq(v->version, VERSION))
		fprintf(stderr, "WARNING: version mismatch\n");
	if (!streq(v->revision, REVISION))
		fprintf(stderr, "WARNING: revision mismatch\n");
	return 0;
}

static int run_version(struct ctr *c, struct err *err)
{
	Google__Protobuf__Empty empty = GOOGLE__PROTOBUF__EMPTY__INIT;
	bool plain = !*ctr_string(c, "format");
	PB_INTROSPECTION(ServerResponse) * server;
	json_t *out _cleanup_json_ = NULL;
	PB_VERSION(VersionResponse) * v;
	int r;

	if (plain)
		printf("Client:\n  Version:  %s\n  Revision: %s\n  C compiler: %s\n\n", VERSION,
		       REVISION, __VERSION__);
	r = ctr_connect(c, err);
	if (r == 0)
		r = client_call(c->client, &c->ctx, PB_VERSION_SERVICE, "Version", &empty.base, &v,
				err);
	if (r == 0)
		r = client_call(c->client, &c->ctx, PB_INTROSPECTION_SERVICE, "Server", &empty.base,
				&server, err);
	if (r < 0 || plain)
		return r < 0 ? r : print_version_text(v, server);
	out = json_pack("{s:{s:s,s:s,s:s},s:{s:s,s:s,s:s}}", "Client", "Version", VERSION,
			"Revision", REVISION, "Compiler", __VERSION__, "Server", "Version",
			v->version, "Revision", v->revision, "UUID", server->uuid);
	return out ? listing_print(c, out, err) : err_nomem(err);
}

const struct ctr_command cmd_version = {
	.name = "version",
	.usage = "print the versions of client and server",
	.flags = CTR_FLAGS(format_flags),
	.run = run_version,
};

/* ---- info ---- */

static int get_server(struct ctr *c, PB_INTROSPECTION(ServerResponse) * *ret, struct err *err)
{
	Google__Protobuf__Empty empty = GOOGLE__PROTOBUF__EMPTY__INIT;
	int r;

	r = ctr_connect(c, err);
	return r < 0 ? r
		     : client_call(c->client, &c->ctx, PB_INTROSPECTION_SERVICE, "Server",
				   &empty.base, ret, err);
}

static int run_info(struct ctr *c, struct err *err)
{
	PB_INTROSPECTION(ServerResponse) * server;
	json_t *out _cleanup_json_ = NULL;
	int r;

	r = get_server(c, &server, err);
	if (r < 0)
		return r;
	out = json_pack("{s:o}", "server", pb_json(&server->base));
	return out ? listing_print(c, out, err) : err_nomem(err);
}

const struct ctr_command cmd_info = {
	.name = "info",
	.usage = "print what the server says about itself",
	.flags = CTR_FLAGS(format_flags),
	.run = run_info,
};

/* ---- deprecations ---- */

/* An object as the protobuf message has it, "ID" and "Message" as templates name them. */
static json_t *deprecation_json(const PB_INTROSPECTION(DeprecationWarning) * d, const char *when)
{
	return json_pack("{s:s,s:s,s:s}", "ID", d->id, "LastOccurrence", when, "Message",
			 d->message);
}

static int print_deprecations(struct ctr *c, const PB_INTROSPECTION(ServerResponse) * server,
			      struct err *err)
{
	struct listing list _cleanup_listing_ = {.table = TABLE_INIT(4, 8, 4, ' ')};
	int r;

	r = listing_begin(c, &list, "ID\tLAST OCCURRENCE\tMESSAGE\t\n", err);
	for (size_t i = 0; r == 0 && i < server->n_deprecations; i++) {
		const PB_INTROSPECTION(DeprecationWarning) *d = server->deprecations[i];
		char when[40];

		time_format_rfc3339(pb_time(d->last_occurrence), when);
		if (list.form == LISTING_JSON)
			r = listing_add(&list, pb_json(&d->base), err, "%s", "");
		else
			r = listing_add(&list, deprecation_json(d, when), err, "%s\t%s\t%s\t\n",
					d->id, when, d->message);
	}
	return r < 0 ? r : listing_end(&list, err);
}

static int run_deprecations(struct ctr *c, struct err *err)
{
	PB_INTROSPECTION(ServerResponse) * server;
	int r;

	r = get_server(c, &server, err);
	return r < 0 ? r : print_deprecations(c, server, err);
}

static const struct ctr_command deprecations_list = {
	.name = "list",
	.usage = "print what is used and deprecated",
	.flags = CTR_FLAGS(format_flags),
	.run = run_deprecations,
};

const struct ctr_command cmd_deprecations = {
	.name = "deprecations",
	.usage = "deprecated features that the server has seen in use",
	.subcommands = CTR_COMMANDS(&deprecations_list),
};

/* ---- oci ---- */

static const struct ctr_flag spec_flags[] = {
	{"platform", 0, CTR_STRING, "platform of the spec; only Linux is known"}, {}};

static int run_spec(struct ctr *c, struct err *err)
{
	const char *text = ctr_string(c, "platform");
	json_t *spec _cleanup_json_ = NULL;
	struct platform p;
	int r = 0;

	if (*text) {
		r = platform_parse(c->ctx.arena, text, &p, err);
		if (r == 0 && !streq(p.os, "linux"))
			return err_set(err, ERR_UNIMPLEMENTED, "a spec for %s", p.os);
	}
	if (r == 0)
		r = spec_new(c->ctx.ns, "", spec_host_unified(), &spec, err);
	return r < 0 ? r : ctr_print_json(spec, err);
}

static const struct ctr_command spec = {
	.name = "spec",
	.usage = "print the default runtime spec",
	.flags = CTR_FLAGS(spec_flags),
	.run = run_spec,
};

const struct ctr_command cmd_oci = {
	.name = "oci",
	.usage = "tools for OCI documents",
	.subcommands = CTR_COMMANDS(&spec),
};
