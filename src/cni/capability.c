/* SPDX-License-Identifier: Apache-2.0 */
/* The well-known capability arguments, in the form that the conventions of CNI give them. */
#include "cni/cni.h"

#include "base/str.h"

static json_t *text_list(const char *const *v, size_t n)
{
	json_t *l = json_array();

	for (size_t i = 0; i < n; i++)
		if (json_array_append_new(l, json_string(v[i])) < 0) {
			json_decref(l);
			return NULL;
		}
	return l;
}

static int set(json_t *caps, const char *name, json_t *value)
{
	return json_object_set_new(caps, name, value) < 0 ? -ENOMEM : 0;
}

int cni_capability_ports(json_t *caps, const struct cni_port *v, size_t n)
{
	json_t *list _cleanup_json_ = json_array();

	for (size_t i = 0; i < n; i++) {
		json_t *o =
			json_pack("{s:i,s:i,s:s}", "hostPort", v[i].host_port, "containerPort",
				  v[i].container_port, "protocol", str_or(v[i].protocol, "tcp"));

		if (!str_empty(v[i].host_ip) &&
		    json_object_set_new(o, "hostIP", json_string(v[i].host_ip)) < 0) {
			json_decref(o);
			return -ENOMEM;
		}
		if (json_array_append_new(list, o) < 0)
			return -ENOMEM;
	}
	return set(caps, "portMappings", json_incref(list));
}

int cni_capability_bandwidth(json_t *caps, uint64_t ingress_rate, uint64_t ingress_burst,
			     uint64_t egress_rate, uint64_t egress_burst)
{
	const struct {
		const char *name;
		uint64_t value;
	} v[] = {{"ingressRate", ingress_rate},
		 {"ingressBurst", ingress_rate ? ingress_burst : 0},
		 {"egressRate", egress_rate},
		 {"egressBurst", egress_rate ? egress_burst : 0}};
	json_t *o _cleanup_json_ = json_object();

	for (size_t i = 0; i < ARRAY_LEN(v); i++)
		if (v[i].value &&
		    set(o, v[i].name,
			json_integer((json_int_t)MIN(v[i].value, (uint64_t)INT64_MAX))) < 0)
			return -ENOMEM;
	return set(caps, "bandwidth", json_incref(o));
}

int cni_capability_dns(json_t *caps, const char *const *servers, size_t n_servers,
		       const char *const *searches, size_t n_searches, const char *const *options,
		       size_t n_options)
{
	json_t *o _cleanup_json_ = json_object();

	if ((n_servers && set(o, "servers", text_list(servers, n_servers)) < 0) ||
	    (n_searches && set(o, "searches", text_list(searches, n_searches)) < 0) ||
	    (n_options && set(o, "options", text_list(options, n_options)) < 0))
		return -ENOMEM;
	return set(caps, "dns", json_incref(o));
}

int cni_capability_text(json_t *caps, const char *name, const char *value)
{
	return set(caps, name, json_string(value));
}

int cni_capability_list(json_t *caps, const char *name, const char *const *v, size_t n)
{
	return set(caps, name, text_list(v, n));
}

int cni_capability_ip_range(json_t *caps, const char *subnet, const char *range_start,
			    const char *range_end, const char *gateway)
{
	json_t *range _cleanup_json_ = json_pack("{s:s}", "subnet", subnet);
	json_t *sets = json_arr_make(caps, "ipRanges");

	if ((!str_empty(range_start) && set(range, "rangeStart", json_string(range_start)) < 0) ||
	    (!str_empty(range_end) && set(range, "rangeEnd", json_string(range_end)) < 0) ||
	    (!str_empty(gateway) && set(range, "gateway", json_string(gateway)) < 0))
		return -ENOMEM;
	return json_array_append_new(sets, json_pack("[O]", range)) < 0 ? -ENOMEM : 0;
}
