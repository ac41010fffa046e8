/* SPDX-License-Identifier: Apache-2.0 */
/* Listening TCP sockets by their addresses. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/str.h"
#include "core/listen.h"

static void addresses_are_listened_on(void **state)
{
	static const char *const addresses[] = {"127.0.0.1:0", "localhost:0", ":0"};

	for (size_t i = 0; i < ARRAY_LEN(addresses); i++) {
		struct err err = ERR_INIT;
		int fd = -1, on = 0;
		socklen_t n = sizeof(on);

		if (tcp_listen(addresses[i], &fd, &err) < 0)
			fail_msg("%s", err.text);
		assert_true(tcp_port(fd) > 0);
		assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &on, &n), 0);
		assert_int_equal(on, 1);
		close(fd);
	}
}

static void an_address_in_use_is_an_error_that_names_it(void **state)
{
	struct err err = ERR_INIT;
	char address[32];
	int fd, other = -1;

	assert_int_equal(tcp_listen("127.0.0.1:0", &fd, &err), 0);
	snprintf(address, sizeof(address), "127.0.0.1:%d", tcp_port(fd));
	assert_true(tcp_listen(address, &other, &err) < 0);
	assert_int_equal(other, -1);
	assert_non_null(strstr(err.text, address));
	close(fd);
}

static void what_is_no_address_is_refused(void **state)
{
	static const char *const bad[] = {"",	      "127.0.0.1", "127.0.0.1:",	"::1:80",
					  "x:noport", "[::1",	   "127.0.0.1:99999999"};

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct err err = ERR_INIT;
		int fd = -1;

		assert_true(tcp_listen(bad[i], &fd, &err) < 0);
		assert_int_equal(fd, -1);
		assert_true(err.kind == ERR_INVALID_ARGUMENT || err.kind == ERR_NOT_FOUND);
	}
	assert_int_equal(tcp_port(-1), -EBADF);
}

static void long_hosts_are_refused(void **state)
{
	char address[400];
	struct err err = ERR_INIT;
	int fd;

	memset(address, 'a', sizeof(address));
	strcpy(address + 390, ":80");
	assert_int_equal(tcp_listen(address, &fd, &err), -ERR_INVALID_ARGUMENT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(addresses_are_listened_on),
		cmocka_unit_test(an_address_in_use_is_an_error_that_names_it),
		cmocka_unit_test(what_is_no_address_is_refused),
		cmocka_unit_test(long_hosts_are_refused),
	};

	return cmocka_run_group_tests_name("listen", tests, NULL, NULL);
}
