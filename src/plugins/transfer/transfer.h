/* SPDX-License-Identifier: Apache-2.0 */
/* io.containerd.transfer.v1 local: moves images between registries, archives and the image store.
 *
 * The daemon drives; bytes from a network or an archive are looked at by containerd-worker only.
 * Every blob's digest is checked here. Functions block; any thread but the loop's. */
#pragma once

#include "core/db.h"
#include "core/image.h"
#include "core/worker.h"
#include "oci/descriptor.h"
#include "plugins/differ/differ.h"

struct pool;
struct stream;
struct streams;
struct transfer;
struct image_verifier;

struct transfer_unpack_rule {
	struct platform platform;
	const char *snapshotter;
	const char *config_type; /* media type of the image's configuration, "" = any */
	const char *const *layer_types;
	size_t n_layer_types;	/* 0 = any */
	struct differs differs; /* that unpack for this snapshotter; none = the options' */
};

struct transfer_options {
	struct db *db;
	struct event_exchange *events;
	struct pool *pool;
	const char *temp;	 /* directory for archives that are being imported */
	const char *config_path; /* hosts.toml directories, ":"-separated; "" = those in /etc */
	int max_downloads;
	int max_uploads;
	int64_t part_bytes; /* of a layer that is fetched by several requests; 0 = by one */
	int max_unpacks; /* layers of one image at once, where the snapshotter can give a snapshot
			    its parent later */
	const char *default_snapshotter;
	/* What may be unpacked; none: anything, with any snapshotter. */
	const struct transfer_unpack_rule *rules;
	size_t n_rules;
	bool check_platform; /* rules are about a platform as a whole, not only its system */
	const struct differs *differs; /* unpack, unless a rule names others; borrowed */
	struct differs erofs_differs;  /* for the snapshotter erofs, likewise; none = the above */
	const char **annotated;	       /* snapshotters that are told what image a layer is of */
	size_t n_annotated;
	struct image_verifier *verifier; /* of pulls, borrowed; NULL = none */
	bool sync_fs; /* the file system of an unpacked layer is on the disk before its snapshot is
			 made */
};

int transfer_new(const struct transfer_options *o, struct transfer **ret,
		 struct err *err) _must_check_;
void transfer_free(struct transfer *t);

/* One step, told to whoever watches: see behaviours of the transfer service for the names of
 * events. */
struct transfer_progress {
	const char *event;
	const char *name;	    /* of the object, "" for steps of the whole */
	const char *const *parents; /* NULL-terminated or NULL */
	int64_t progress, total;
	const struct descriptor *desc; /* or NULL */
};

/* Called on any thread, one at a time. */
struct transfer_watch {
	void (*fn)(void *arg, const struct transfer_progress *p); /* NULL = nobody watches */
	void *arg;
};

struct transfer_registry {
	const char *reference;
	struct labels headers;
	const char *host_dir;	    /* "" = the configured ones */
	const char *default_scheme; /* "http", "https", "" = by the host */
	int (*auth)(void *arg, const char *host, const char *const *challenges,
		    struct fetch_auth *ret, struct err *err);
	void *auth_arg;
	/* Receives requests and answers as lines, on any thread; NULL = none are made. */
	void (*log)(void *arg, const char *line);
	void *log_arg;
};

struct transfer_unpack {
	struct platform platform; /* os "" = this host's */
	const char *snapshotter;  /* "" = the default */
};

struct transfer_reference {
	const char *name;
	bool is_prefix, allow_overwrite, add_digest, skip_named_digest;
};

struct transfer_store {
	const char *name;
	struct labels labels;
	const struct platform *platforms;
	size_t n_platforms; /* 0 = all */
	bool all_metadata;
	uint32_t manifest_limit; /* of an index, the best ones; 0 = none */
	const struct transfer_unpack *unpacks;
	size_t n_unpacks;
	const struct transfer_reference *extra;
	size_t n_extra;
	int max_downloads;  /* 0 = as configured */
	bool sync_fs;	    /* as in transfer_options, for this transfer */
	bool no_decryption; /* tell the decoders of encrypted layers nothing but the layer */
};

int transfer_pull(struct ctx *ctx, struct transfer *t, const struct transfer_registry *from,
		  const struct transfer_store *to, const struct transfer_watch *watch,
		  struct err *err) _must_check_;

/* Unpacks an image whose blobs are in the store already, as pulls and imports do. */
struct manifest;
int transfer_unpack_manifest(struct ctx *ctx, struct transfer *t, const struct manifest *m,
			     const char *snapshotter, bool no_decryption,
			     struct err *err) _must_check_;

struct transfer_push {
	const char *name; /* of the image */
	const struct platform *platforms;
	size_t n_platforms;	/* 0 = all that the image has */
	bool non_distributable; /* send layers that are marked as not to be distributed, too */
	int max_uploads;	/* 0 = as configured */
};

/* Sends an image's blobs, then its manifests, then gives the last of them the reference's tag.
 *
 * -ERR_NOT_FOUND        the image, or a part of it, is not there
 * and what hosts_load() and fetch_push() say. */
int transfer_push(struct ctx *ctx, struct transfer *t, const struct transfer_push *from,
		  const struct transfer_registry *to, const struct transfer_watch *watch,
		  struct err *err) _must_check_;

/* Reads a tar of an OCI layout or a docker archive from @fd (pipe or file) and stores its images.
 * @compress: plain layers of a docker archive are compressed; an OCI layout says itself what its
 * blobs are. */
int transfer_import(struct ctx *ctx, struct transfer *t, int fd, bool compress,
		    const struct transfer_store *to, const struct transfer_watch *watch,
		    struct err *err) _must_check_;

struct transfer_export {
	const struct platform *platforms;
	size_t n_platforms; /* 0 with all = false: the host's */
	bool all_platforms, skip_docker_manifest, skip_non_distributable;
};

/* Writes the image @from->name and those that @from->extra name as an OCI layout (with a
 * manifest.json for docker unless skipped) as tar to @write. */
int transfer_export(struct ctx *ctx, struct transfer *t, const struct transfer_store *from,
		    const struct transfer_export *o,
		    int (*write)(void *arg, const void *p, size_t n, struct err *err), void *arg,
		    const struct transfer_watch *watch, struct err *err) _must_check_;

/* Gives image @from the further name @to->name. */
int transfer_tag(struct ctx *ctx, struct transfer *t, const char *from,
		 const struct transfer_store *to, struct err *err) _must_check_;
