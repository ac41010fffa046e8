/* SPDX-License-Identifier: Apache-2.0 */
/* What decoders of encrypted layers are told.
 *
 * A layer of a type that ends in +encrypted goes through stream processors like any other that the
 * daemon cannot unpack itself. Decoders of imgcrypt's make (ctd-decoder) want a payload besides the
 * layer: its descriptor, whose annotations have the wrapped keys, and keys that a client gives.
 * Keys of the node are found by the decoder itself, so none are given here. */
#include "base/json.h"
#include "base/str.h"
#include "plugins/transfer/internal.h"

#define ENCRYPTED "+encrypted"
#define PAYLOAD_TYPE "io.containerd.ocicrypt.v1.Payload"

static json_t *descriptor_json(const struct descriptor *d)
{
	json_t *j = json_pack("{s:s, s:s, s:I}", "mediaType", d->media_type, "digest", d->digest,
			      "size", (json_int_t)d->size),
	       *notes = j && d->annotations.n ? json_obj_make(j, "annotations") : NULL;

	for (size_t i = 0; notes && i < d->annotations.n; i++)
		if (json_object_set_new(notes, d->annotations.v[i].key,
					json_string(d->annotations.v[i].value)) < 0)
			notes = NULL;
	if (j && (notes || !d->annotations.n))
		return j;
	json_decref(j);
	return NULL;
}

static int payload_json(struct arena *a, const struct descriptor *d, struct any *ret,
			struct err *err)
{
	json_t *descriptor = descriptor_json(d);
	json_t *j _cleanup_json_ = descriptor ? json_pack("{s:{s:n}, s:o}", "DecryptConfig",
							  "Parameters", "Descriptor", descriptor)
					      : NULL;
	char *text = j ? json_dumps(j, JSON_COMPACT) : NULL,
	     *copy = text ? arena_strdup(a, text) : NULL;

	free(text);
	if (!copy)
		return err_set(err, ERR_RESOURCE_EXHAUSTED,
			       "payload for the decoder of layer %s cannot be made", d->digest);
	*ret = (struct any){PAYLOAD_TYPE, copy, strlen(copy)};
	return 0;
}

int decrypt_payloads(struct arena *a, struct apply_request *q, struct err *err)
{
	static const char *const decoders[] = {"io.containerd.ocicrypt.decoder.v1.tar",
					       "io.containerd.ocicrypt.decoder.v1.tar.gzip",
					       "io.containerd.ocicrypt.decoder.v1.tar.zstd"};
	struct any any;

	if (!str_has_suffix(q->desc->media_type, ENCRYPTED))
		return 0;
	struct payload *v = arena_new_array(a, struct payload, ARRAY_LEN(decoders));
	int r = v ? payload_json(a, q->desc, &any, err) : err_nomem(err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < ARRAY_LEN(decoders); i++)
		v[i] = (struct payload){.id = decoders[i], .any = any};
	q->payloads = v;
	q->n_payloads = ARRAY_LEN(decoders);
	return 0;
}
