/* SPDX-License-Identifier: Apache-2.0 */
/* libmicrohttpd and GnuTLS, loaded when they are wanted: with what they bring they are a dozen
 * libraries, and most workers unpack a layer.
 *
 * What the role "front" calls of them is a member of front_lib, and its name here stands for that:
 * the files of the role include this header instead of the libraries' own. front_lib_load() comes
 * before all others, and before the jail. */
#pragma once

#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <microhttpd.h>

#include "base/err.h"

#define FRONT_LIB_HTTP(X)                    \
	X(MHD_add_connection)                \
	X(MHD_add_response_header)           \
	X(MHD_create_response_for_upgrade)   \
	X(MHD_create_response_from_buffer)   \
	X(MHD_create_response_from_callback) \
	X(MHD_create_response_from_fd)       \
	X(MHD_destroy_response)              \
	X(MHD_get_connection_info)           \
	X(MHD_get_connection_values)         \
	X(MHD_get_daemon_info)               \
	X(MHD_get_reason_phrase_for)         \
	X(MHD_get_timeout)                   \
	X(MHD_lookup_connection_value)       \
	X(MHD_queue_response)                \
	X(MHD_resume_connection)             \
	X(MHD_run)                           \
	X(MHD_start_daemon)                  \
	X(MHD_suspend_connection)            \
	X(MHD_upgrade_action)

#define FRONT_LIB_TLS(X)                           \
	X(gnutls_alert_send_appropriate)           \
	X(gnutls_alpn_set_protocols)               \
	X(gnutls_bye)                              \
	X(gnutls_certificate_allocate_credentials) \
	X(gnutls_certificate_free_credentials)     \
	X(gnutls_certificate_server_set_request)   \
	X(gnutls_certificate_set_x509_key)         \
	X(gnutls_certificate_set_x509_key_mem2)    \
	X(gnutls_certificate_set_x509_trust_mem)   \
	X(gnutls_credentials_set)                  \
	X(gnutls_deinit)                           \
	X(gnutls_error_is_fatal)                   \
	X(gnutls_handshake)                        \
	X(gnutls_handshake_set_timeout)            \
	X(gnutls_hash_fast)                        \
	X(gnutls_init)                             \
	X(gnutls_priority_init)                    \
	X(gnutls_priority_set)                     \
	X(gnutls_record_get_direction)             \
	X(gnutls_record_recv)                      \
	X(gnutls_record_send)                      \
	X(gnutls_session_set_verify_cert2)         \
	X(gnutls_strerror)                         \
	X(gnutls_transport_set_int2)               \
	X(gnutls_x509_crt_deinit)                  \
	X(gnutls_x509_crt_init)                    \
	X(gnutls_x509_crt_set_activation_time)     \
	X(gnutls_x509_crt_set_dn_by_oid)           \
	X(gnutls_x509_crt_set_expiration_time)     \
	X(gnutls_x509_crt_set_key)                 \
	X(gnutls_x509_crt_set_key_purpose_oid)     \
	X(gnutls_x509_crt_set_serial)              \
	X(gnutls_x509_crt_set_subject_alt_name)    \
	X(gnutls_x509_crt_set_version)             \
	X(gnutls_x509_crt_sign2)                   \
	X(gnutls_x509_privkey_deinit)              \
	X(gnutls_x509_privkey_generate)            \
	X(gnutls_x509_privkey_init)

#define FRONT_LIB_MEMBER(name) __typeof__(name) *name;
struct front_lib {
	FRONT_LIB_HTTP(FRONT_LIB_MEMBER)
	FRONT_LIB_TLS(FRONT_LIB_MEMBER)
};
#undef FRONT_LIB_MEMBER

extern struct front_lib front_lib;

/* -ERR_UNAVAILABLE names what is missing. */
int front_lib_load(struct err *err) _must_check_;

#ifndef FRONT_LIB_NAMES
#define MHD_add_connection front_lib.MHD_add_connection
#define MHD_add_response_header front_lib.MHD_add_response_header
#define MHD_create_response_for_upgrade front_lib.MHD_create_response_for_upgrade
#define MHD_create_response_from_buffer front_lib.MHD_create_response_from_buffer
#define MHD_create_response_from_callback front_lib.MHD_create_response_from_callback
#define MHD_create_response_from_fd front_lib.MHD_create_response_from_fd
#define MHD_destroy_response front_lib.MHD_destroy_response
#define MHD_get_connection_info front_lib.MHD_get_connection_info
#define MHD_get_connection_values front_lib.MHD_get_connection_values
#define MHD_get_daemon_info front_lib.MHD_get_daemon_info
#define MHD_get_reason_phrase_for front_lib.MHD_get_reason_phrase_for
#define MHD_get_timeout front_lib.MHD_get_timeout
#define MHD_lookup_connection_value front_lib.MHD_lookup_connection_value
#define MHD_queue_response front_lib.MHD_queue_response
#define MHD_resume_connection front_lib.MHD_resume_connection
#define MHD_run front_lib.MHD_run
#define MHD_start_daemon front_lib.MHD_start_daemon
#define MHD_suspend_connection front_lib.MHD_suspend_connection
#define MHD_upgrade_action front_lib.MHD_upgrade_action
#define gnutls_alert_send_appropriate front_lib.gnutls_alert_send_appropriate
#define gnutls_alpn_set_protocols front_lib.gnutls_alpn_set_protocols
#define gnutls_bye front_lib.gnutls_bye
#define gnutls_certificate_allocate_credentials front_lib.gnutls_certificate_allocate_credentials
#define gnutls_certificate_free_credentials front_lib.gnutls_certificate_free_credentials
#define gnutls_certificate_server_set_request front_lib.gnutls_certificate_server_set_request
#define gnutls_certificate_set_x509_key front_lib.gnutls_certificate_set_x509_key
#define gnutls_certificate_set_x509_key_mem2 front_lib.gnutls_certificate_set_x509_key_mem2
#define gnutls_certificate_set_x509_trust_mem front_lib.gnutls_certificate_set_x509_trust_mem
#define gnutls_credentials_set front_lib.gnutls_credentials_set
#define gnutls_deinit front_lib.gnutls_deinit
#define gnutls_error_is_fatal front_lib.gnutls_error_is_fatal
#define gnutls_handshake front_lib.gnutls_handshake
#define gnutls_handshake_set_timeout front_lib.gnutls_handshake_set_timeout
#define gnutls_hash_fast front_lib.gnutls_hash_fast
#define gnutls_init front_lib.gnutls_init
#define gnutls_priority_init front_lib.gnutls_priority_init
#define gnutls_priority_set front_lib.gnutls_priority_set
#define gnutls_record_get_direction front_lib.gnutls_record_get_direction
#define gnutls_record_recv front_lib.gnutls_record_recv
#define gnutls_record_send front_lib.gnutls_record_send
#define gnutls_session_set_verify_cert2 front_lib.gnutls_session_set_verify_cert2
#define gnutls_strerror front_lib.gnutls_strerror
#define gnutls_transport_set_int2 front_lib.gnutls_transport_set_int2
#define gnutls_x509_crt_deinit front_lib.gnutls_x509_crt_deinit
#define gnutls_x509_crt_init front_lib.gnutls_x509_crt_init
#define gnutls_x509_crt_set_activation_time front_lib.gnutls_x509_crt_set_activation_time
#define gnutls_x509_crt_set_dn_by_oid front_lib.gnutls_x509_crt_set_dn_by_oid
#define gnutls_x509_crt_set_expiration_time front_lib.gnutls_x509_crt_set_expiration_time
#define gnutls_x509_crt_set_key front_lib.gnutls_x509_crt_set_key
#define gnutls_x509_crt_set_key_purpose_oid front_lib.gnutls_x509_crt_set_key_purpose_oid
#define gnutls_x509_crt_set_serial front_lib.gnutls_x509_crt_set_serial
#define gnutls_x509_crt_set_subject_alt_name front_lib.gnutls_x509_crt_set_subject_alt_name
#define gnutls_x509_crt_set_version front_lib.gnutls_x509_crt_set_version
#define gnutls_x509_crt_sign2 front_lib.gnutls_x509_crt_sign2
#define gnutls_x509_privkey_deinit front_lib.gnutls_x509_privkey_deinit
#define gnutls_x509_privkey_generate front_lib.gnutls_x509_privkey_generate
#define gnutls_x509_privkey_init front_lib.gnutls_x509_privkey_init
#endif
