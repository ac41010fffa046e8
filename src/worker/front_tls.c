/* SPDX-License-Identifier: Apache-2.0 */
/* TLS: certificates, and connections until they are secured. GnuTLS; 1.2 and 1.3, no resumption, no
 * renegotiation. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/str.h"
#include "base/time.h"
#include "worker/front.h"

#define SELF_SIGNED_DAYS 365

static int fail(struct err *err, int r, const char *what)
{
	return err_set(err, ERR_INVALID_ARGUMENT, "%s: %s", what, gnutls_strerror(r));
}

/* ---- certificates ---- */

/* Valid for localhost and this host: a client that wants to trust it must be told to. */
static int self_sign(gnutls_x509_crt_t crt, gnutls_x509_privkey_t key)
{
	static const unsigned char any[4] = {127, 0, 0, 1};
	unsigned char serial[16];
	time_t now = time(NULL);
	int r;

	random_bytes(serial, sizeof(serial));
	serial[0] &= 0x7f;
	r = gnutls_x509_privkey_generate(key, GNUTLS_PK_ECDSA,
					 GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), 0);
	if (r == 0)
		r = gnutls_x509_crt_set_key(crt, key);
	if (r == 0)
		r = gnutls_x509_crt_set_version(crt, 3);
	if (r == 0)
		r = gnutls_x509_crt_set_serial(crt, serial, sizeof(serial));
	if (r == 0)
		r = gnutls_x509_crt_set_dn_by_oid(crt, GNUTLS_OID_X520_COMMON_NAME, 0, "containerd",
						  strlen("containerd"));
	if (r == 0)
		r = gnutls_x509_crt_set_subject_alt_name(crt, GNUTLS_SAN_DNSNAME, "localhost",
							 strlen("localhost"), GNUTLS_FSAN_SET);
	if (r == 0)
		r = gnutls_x509_crt_set_subject_alt_name(crt, GNUTLS_SAN_IPADDRESS, any,
							 sizeof(any), GNUTLS_FSAN_APPEND);
	if (r == 0)
		r = gnutls_x509_crt_set_activation_time(crt, now - 3600);
	if (r == 0)
		r = gnutls_x509_crt_set_expiration_time(crt, now + SELF_SIGNED_DAYS * 86400L);
	if (r == 0)
		r = gnutls_x509_crt_set_key_purpose_oid(crt, GNUTLS_KP_TLS_WWW_SERVER, 0);
	if (r == 0)
		r = gnutls_x509_crt_sign2(crt, crt, key, GNUTLS_DIG_SHA256, 0);
	return r;
}

static int set_self_signed(gnutls_certificate_credentials_t cred)
{
	gnutls_x509_privkey_t key = NULL;
	gnutls_x509_crt_t crt = NULL;
	int r = gnutls_x509_privkey_init(&key);

	if (r == 0)
		r = gnutls_x509_crt_init(&crt);
	if (r == 0)
		r = self_sign(crt, key);
	if (r == 0)
		r = gnutls_certificate_set_x509_key(cred, &crt, 1, key);
	if (crt)
		gnutls_x509_crt_deinit(crt);
	if (key)
		gnutls_x509_privkey_deinit(key);
	return r;
}

static int set_pair(gnutls_certificate_credentials_t cred, const char *cert, const char *key)
{
	gnutls_datum_t c = {(void *)cert, (unsigned)strlen(cert)},
		       k = {(void *)key, (unsigned)strlen(key)};

	return gnutls_certificate_set_x509_key_mem2(cred, &c, &k, GNUTLS_X509_FMT_PEM, NULL, 0);
}

static int set_ca(struct credentials *c, const char *pem, struct err *err)
{
	gnutls_datum_t d = {(void *)pem, (unsigned)strlen(pem)};
	int r = gnutls_certificate_set_x509_trust_mem(c->cert, &d, GNUTLS_X509_FMT_PEM);

	if (r < 0)
		return fail(err, r, "certificates of clients' authorities");
	if (r == 0)
		return err_set(err, ERR_INVALID_ARGUMENT,
			       "certificates of clients' authorities: there are none");
	c->client_ca = true;
	return 0;
}

int credentials_new(const json_t *tls, struct credentials **ret, struct err *err)
{
	const char *ca = json_str(tls, "ca", NULL);
	struct credentials *c = calloc(1, sizeof(*c));
	int r;

	if (!c)
		return err_nomem(err);
	c->refs = 1;
	r = gnutls_certificate_allocate_credentials(&c->cert);
	if (r < 0) {
		free(c);
		return err_nomem(err);
	}
	r = json_bool(tls, "self_signed", false)
		    ? set_self_signed(c->cert)
		    : set_pair(c->cert, json_str(tls, "cert", ""), json_str(tls, "key", ""));
	r = r < 0 ? fail(err, r, "certificate and key") : 0;
	if (r == 0 && ca)
		r = set_ca(c, ca, err);
	if (r < 0) {
		credentials_unref(c);
		return r;
	}
	*ret = c;
	return 0;
}

void credentials_unref(struct credentials *c)
{
	if (!c || --c->refs > 0)
		return;
	gnutls_certificate_free_credentials(c->cert);
	free(c);
}

/* ---- connections ---- */

static int session_setup(struct relay *r)
{
	static gnutls_typed_vdata_st purpose = {.type = GNUTLS_DT_KEY_PURPOSE_OID,
						.data = (void *)GNUTLS_KP_TLS_WWW_CLIENT};
	gnutls_datum_t h2 = {(unsigned char *)"h2", 2};
	gnutls_session_t s;
	int k = gnutls_init(&r->end[0].tls,
			    GNUTLS_SERVER | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL | GNUTLS_NO_TICKETS);

	if (k < 0)
		return k;
	s = r->end[0].tls;
	k = gnutls_priority_set(s, r->front->priority);
	if (k == 0)
		k = gnutls_credentials_set(s, GNUTLS_CRD_CERTIFICATE, r->cred->cert);
	if (k == 0 && r->listener->alpn_h2)
		k = gnutls_alpn_set_protocols(s, &h2, 1, GNUTLS_ALPN_MANDATORY);
	gnutls_certificate_server_set_request(s, r->cred->client_ca ? GNUTLS_CERT_REQUIRE
								    : GNUTLS_CERT_IGNORE);
	if (r->cred->client_ca)
		gnutls_session_set_verify_cert2(s, &purpose, 1, 0);
	gnutls_handshake_set_timeout(s, GNUTLS_INDEFINITE_TIMEOUT);
	gnutls_transport_set_int(s, r->end[0].source.fd);
	return k;
}

void tls_accept(struct listener *l, int fd)
{
	struct relay *r = relay_new(l->front, fd);

	if (!r) {
		close(fd);
		return;
	}
	r->listener = l;
	r->cred = l->tls;
	r->cred->refs++;
	r->deadline = time_mono() + HANDSHAKE_NS;
	if (session_setup(r) < 0)
		relay_kill(r);
	else
		tls_handshake(r);
}

/* Secured: its bytes go on to where those of a plain connection would have gone. */
static void secured(struct relay *r)
{
	struct listener *l = r->listener;
	struct front *f = r->front;
	int pair[2];

	r->deadline = 0;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0) {
		relay_kill(r);
		return;
	}
	relay_set_peer(r, pair[0]);
	if (l->http) {
		struct sockaddr_storage a = {0};
		socklen_t n = sizeof(a);

		(void)getpeername(r->end[0].source.fd, (struct sockaddr *)&a, &n);
		web_accept(f, pair[1], (struct sockaddr *)&a, n, l->index);
	} else {
		front_send(f, json_pack("{s:{s:i}}", "stream", "listener", (int)l->index), pair[1]);
	}
	relay_pump(r);
}

void tls_handshake(struct relay *r)
{
	struct relay_end *e = &r->end[0];
	int k;

	do
		k = gnutls_handshake(e->tls);
	while (k == GNUTLS_E_INTERRUPTED || k == GNUTLS_E_WARNING_ALERT_RECEIVED);
	if (k == 0) {
		secured(r);
		return;
	}
	if (gnutls_error_is_fatal(k)) {
		/* The client is told why; it may not listen. */
		(void)gnutls_alert_send_appropriate(e->tls, k);
		relay_kill(r);
		return;
	}
	if (source_set(r->front, &e->source,
		       gnutls_record_get_direction(e->tls) ? EPOLLOUT : EPOLLIN) < 0)
		relay_kill(r);
}
