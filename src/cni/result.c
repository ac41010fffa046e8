/* SPDX-License-Identifier: Apache-2.0 */
/* Results: taken apart, and said in another version.
 *
 * Two families: before 0.3.0 a result has one address each of "ip4" and "ip6", with routes inside;
 * from then on lists "interfaces", "ips" (with "version": "4" or "6" before 1.0.0), "routes".
 * 1.1.0 adds members of interfaces and routes. Between the families everything goes over the list
 * form. */
#include "cni/internal.h"

#include <arpa/inet.h>

#include "base/str.h"

#define LIST_MAX 1024 /* addresses, routes, interfaces, ... */

static bool is_old(const char *version)
{
	return cni_version_cmp(version, "0.3.0") < 0;
}

/* What says nothing is judged by its looks. */
static int version_of(const json_t *j, const char **ret, struct err *err)
{
	const char *v = json_str(j, "cniVersion", "");

	if (!json_is_object(j))
		return err_set(err, ERR_INVALID_ARGUMENT, "the result is no object");
	if (!*v)
		v = json_object_get(j, "ip4") || json_object_get(j, "ip6") ? "0.2.0" : "1.0.0";
	if (!cni_version_known(v))
		return err_set(err, ERR_INVALID_ARGUMENT,
			       "the result has the unknown version \"%.64s\"", v);
	*ret = v;
	return 0;
}

/* ---- Addresses ---- */

/* "10.0.0.2/16": family, and the address without the length in the arena. */
static int parse_cidr(struct arena *a, const char *s, const char **ret_ip, bool *ret_v6,
		      struct err *err)
{
	const char *slash = strchr(s, '/');
	unsigned char bytes[16];
	uint64_t bits;
	char *ip;
	bool v6;

	ip = arena_strndup(a, s, slash ? (size_t)(slash - s) : strlen(s));
	if (!ip)
		return err_nomem(err);
	v6 = strchr(ip, ':') != NULL;
	if (!slash || inet_pton(v6 ? AF_INET6 : AF_INET, ip, bytes) != 1 ||
	    str_to_u64(slash + 1, 10, &bits) < 0 || bits > (v6 ? 128 : 32))
		return err_set(err, ERR_INVALID_ARGUMENT,
			       "\"%.64s\" is not an address with a prefix length", s);
	*ret_ip = ip;
	*ret_v6 = v6;
	return 0;
}

static bool is_address(const char *s)
{
	unsigned char bytes[16];

	return inet_pton(strchr(s, ':') ? AF_INET6 : AF_INET, s, bytes) == 1;
}

/* ---- Between the families ---- */

static int append_routes(json_t *to, const json_t *from)
{
	size_t i;
	json_t *v;

	json_array_foreach ((json_t *)from, i, v)
		if (json_array_append_new(to, json_deep_copy(v)) < 0)
			return -1;
	return 0;
}

/* "ip4" or "ip6" of an old result into the lists of a new one. */
static int add_old_ip(json_t *to, const json_t *from, const char *key)
{
	const json_t *ip = json_obj(from, key), *routes = json_arr(ip, "routes");
	const char *gateway = json_str(ip, "gateway", "");
	json_t *o;

	if (!ip)
		return 0;
	o = json_pack("{s:s}", "address", json_str(ip, "ip", ""));
	if (!o || (*gateway && json_object_set_new(o, "gateway", json_string(gateway)) < 0) ||
	    json_array_append(json_arr_make(to, "ips"), o) < 0) {
		json_decref(o);
		return -1;
	}
	json_decref(o);
	return routes ? append_routes(json_arr_make(to, "routes"), routes) : 0;
}

static json_t *old_to_new(const json_t *from)
{
	json_t *to _cleanup_json_ = json_object();
	const json_t *dns = json_obj(from, "dns");

	if (!to || add_old_ip(to, from, "ip4") < 0 || add_old_ip(to, from, "ip6") < 0 ||
	    (dns && json_object_set_new(to, "dns", json_deep_copy(dns)) < 0))
		return NULL;
	return TAKE_PTR(to);
}

static bool is_v6(const char *s)
{
	return strchr(s, ':') != NULL;
}

static int add_new_routes(json_t *ip, const json_t *from, bool v6)
{
	size_t i;
	json_t *v;

	json_array_foreach (json_arr(from, "routes"), i, v) {
		json_t *o;

		if (is_v6(json_str(v, "dst", "")) != v6)
			continue;
		o = json_pack("{s:s}", "dst", json_str(v, "dst", ""));
		if (o && *json_str(v, "gw", ""))
			json_object_set_new(o, "gw", json_string(json_str(v, "gw", "")));
		if (json_array_append_new(json_arr_make(ip, "routes"), o) < 0)
			return -1;
	}
	return 0;
}

/* The first address of each family. */
static json_t *new_to_old(const json_t *from)
{
	json_t *to _cleanup_json_ = json_object();
	const json_t *dns = json_obj(from, "dns");
	size_t i;
	json_t *v;

	json_array_foreach (json_arr(from, "ips"), i, v) {
		const char *address = json_str(v, "address", "");
		const char *gateway = json_str(v, "gateway", "");
		const char *key = is_v6(address) ? "ip6" : "ip4";
		json_t *ip;

		if (json_object_get(to, key))
			continue;
		ip = json_obj_make(to, key);
		if (!ip || json_object_set_new(ip, "ip", json_string(address)) < 0 ||
		    (*gateway && json_object_set_new(ip, "gateway", json_string(gateway)) < 0) ||
		    add_new_routes(ip, from, is_v6(address)) < 0)
			return NULL;
	}
	if (!to || (dns && json_object_set_new(to, "dns", json_deep_copy(dns)) < 0))
		return NULL;
	return TAKE_PTR(to);
}

static void strip(const json_t *list, const char *const *names, size_t n)
{
	size_t i;
	json_t *v;

	json_array_foreach ((json_t *)list, i, v)
		for (size_t k = 0; k < n; k++)
			json_object_del(v, names[k]);
}

/* The members that @version has, in the list form. */
static int adapt(json_t *j, const char *version)
{
	static const char *const link[] = {"mtu", "socketPath", "pciID"};
	static const char *const route[] = {"mtu", "advmss", "priority", "table", "scope"};
	size_t i;
	json_t *v;

	if (cni_version_cmp(version, "1.1.0") < 0) {
		strip(json_arr(j, "interfaces"), link, ARRAY_LEN(link));
		strip(json_arr(j, "routes"), route, ARRAY_LEN(route));
	}
	json_array_foreach (json_arr(j, "ips"), i, v) {
		if (cni_version_cmp(version, "1.0.0") >= 0)
			json_object_del(v, "version");
		else if (json_object_set_new(
				 v, "version",
				 json_string(is_v6(json_str(v, "address", "")) ? "6" : "4")) < 0)
			return -1;
	}
	return 0;
}

int cni_result_convert(const json_t *from, const char *version, json_t **ret, struct err *err)
{
	json_t *out _cleanup_json_ = NULL;
	const char *has;
	int r;

	r = version_of(from, &has, err);
	if (r < 0)
		return r;
	if (!cni_version_known(version))
		return err_set(err, ERR_INVALID_ARGUMENT, "unknown CNI version \"%.64s\"", version);
	if (is_old(has) == is_old(version))
		out = json_deep_copy(from);
	else
		out = is_old(has) ? old_to_new(from) : new_to_old(from);
	if (out && is_old(version) && !json_object_get(out, "ip4") && !json_object_get(out, "ip6"))
		return err_set(err, ERR_INVALID_ARGUMENT, "cannot convert: no valid IP addresses");
	if (!out || (!is_old(version) && adapt(out, version) < 0) ||
	    json_object_set_new(out, "cniVersion", json_string(version)) < 0)
		return err_nomem(err);
	*ret = TAKE_PTR(out);
	return 0;
}

/* ---- Taking apart ---- */

static int copy(struct arena *a, const json_t *o, const char *key, const char **ret)
{
	*ret = arena_strdup(a, json_str(o, key, ""));
	return *ret ? 0 : -ENOMEM;
}

static int list_of(const json_t *j, const char *key, json_t **ret, size_t *ret_n, struct err *err)
{
	*ret = json_arr(j, key);
	*ret_n = json_array_size(*ret);
	if (*ret_n > LIST_MAX)
		return err_set(err, ERR_INVALID_ARGUMENT, "the result has more than %d %s",
			       LIST_MAX, key);
	return 0;
}

static int read_interfaces(struct arena *a, const json_t *j, struct cni_result *res,
			   struct err *err)
{
	json_t *list, *v;
	size_t i, n;
	int r;

	r = list_of(j, "interfaces", &list, &n, err);
	if (r < 0)
		return r;
	res->interfaces = arena_new_array(a, struct cni_interface, n + 1);
	if (!res->interfaces)
		return err_nomem(err);
	json_array_foreach (list, i, v) {
		struct cni_interface *f = &res->interfaces[res->n_interfaces++];

		if (copy(a, v, "name", &f->name) < 0 || copy(a, v, "mac", &f->mac) < 0 ||
		    copy(a, v, "sandbox", &f->sandbox) < 0)
			return err_nomem(err);
		f->mtu = json_int(v, "mtu", 0);
	}
	return 0;
}

static int read_ip(struct arena *a, const json_t *v, const struct cni_result *res,
		   struct cni_ip *ip, struct err *err)
{
	const json_t *index = json_object_get(v, "interface");
	json_int_t i = json_is_integer(index) ? json_integer_value(index) : -1;
	int r;

	if (copy(a, v, "address", &ip->address) < 0 || copy(a, v, "gateway", &ip->gateway) < 0)
		return err_nomem(err);
	r = parse_cidr(a, ip->address, &ip->ip, &ip->v6, err);
	if (r < 0)
		return r;
	if (*ip->gateway && !is_address(ip->gateway))
		return err_set(err, ERR_INVALID_ARGUMENT, "gateway \"%.64s\" is not an address",
			       ip->gateway);
	if (index && !json_is_null(index) && (i < 0 || (size_t)i >= res->n_interfaces))
		return err_set(err, ERR_INVALID_ARGUMENT,
			       "address %s is of an interface that the result does not have",
			       ip->address);
	ip->interface = (int)i;
	return 0;
}

static int read_ips(struct arena *a, const json_t *j, struct cni_result *res, struct err *err)
{
	json_t *list, *v;
	size_t i, n;
	int r;

	r = list_of(j, "ips", &list, &n, err);
	if (r < 0)
		return r;
	res->ips = arena_new_array(a, struct cni_ip, n + 1);
	if (!res->ips)
		return err_nomem(err);
	json_array_foreach (list, i, v) {
		r = read_ip(a, v, res, &res->ips[res->n_ips++], err);
		if (r < 0)
			return r;
	}
	return 0;
}

static int read_routes(struct arena *a, const json_t *j, struct cni_result *res, struct err *err)
{
	json_t *list, *v;
	size_t i, n;
	int r;

	r = list_of(j, "routes", &list, &n, err);
	if (r < 0)
		return r;
	res->routes = arena_new_array(a, struct cni_route, n + 1);
	if (!res->routes)
		return err_nomem(err);
	json_array_foreach (list, i, v) {
		struct cni_route *t = &res->routes[res->n_routes++];
		const char *ip;
		bool v6;

		if (copy(a, v, "dst", &t->dst) < 0 || copy(a, v, "gw", &t->gw) < 0)
			return err_nomem(err);
		r = parse_cidr(a, t->dst, &ip, &v6, err);
		if (r < 0)
			return err_prefix(err, "route");
	}
	return 0;
}

static int read_texts(struct arena *a, const json_t *o, const char *key, const char ***ret,
		      size_t *ret_n, struct err *err)
{
	json_t *list, *v;
	size_t i, n;
	int r;

	r = list_of(o, key, &list, &n, err);
	if (r < 0)
		return r;
	*ret = arena_new_array(a, const char *, n + 1);
	if (!*ret)
		return err_nomem(err);
	json_array_foreach (list, i, v) {
		(*ret)[*ret_n] = arena_strdup(a, str_or(json_string_value(v), ""));
		if (!(*ret)[(*ret_n)++])
			return err_nomem(err);
	}
	return 0;
}

static int read_dns(struct arena *a, const json_t *j, struct cni_dns *d, struct err *err)
{
	const json_t *o = json_obj(j, "dns");
	int r;

	if (copy(a, o, "domain", &d->domain) < 0)
		return err_nomem(err);
	r = read_texts(a, o, "nameservers", &d->servers, &d->n_servers, err);
	if (r == 0)
		r = read_texts(a, o, "search", &d->searches, &d->n_searches, err);
	if (r == 0)
		r = read_texts(a, o, "options", &d->options, &d->n_options, err);
	return r;
}

int cni_result_read(struct arena *a, const json_t *j, struct cni_result *ret, struct err *err)
{
	json_t *lists _cleanup_json_ = NULL;
	struct cni_result res = {};
	int r;

	r = cni_result_convert(j, CNI_VERSION_MAX, &lists, err);
	if (r == 0)
		r = read_interfaces(a, lists, &res, err);
	if (r == 0)
		r = read_ips(a, lists, &res, err);
	if (r == 0)
		r = read_routes(a, lists, &res, err);
	if (r == 0)
		r = read_dns(a, lists, &res.dns, err);
	if (r < 0)
		return r;
	*ret = res;
	return 0;
}
