/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Jobs for later, and what becomes of them where there is no later. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "transport/device_i.h"
#include "transport/helper_i.h"
#include "transport/transport.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <unistd.h>

static int device_then;
static atomic_uint done;

/* As a job does that answers by another device. */
static void job(void *data)
{
	(void)data;
	device_then = un_device_of_thread();
	un_transport_use_device(-1);
	done++;
}

static void a_job_has_no_device(void **state)
{
	struct un_helper *h = un_helper_new();

	(void)state;
	done = 0;
	un_transport_use_device(7);
	un_helper_defer(h, job, NULL);
	un_helper_stop(h);
	assert_int_equal(done, 1);
	assert_int_equal(device_then, -1);
	assert_int_equal(un_device_of_thread(), 7);
	un_transport_use_device(-1);
	un_helper_free(h);
}

/* It is done at once, and the caller's device is the caller's as before: closed when that ends. */
static void without_a_thread(void **state)
{
	struct un_helper *h = un_helper_new();
	int fd = open("/dev/null", O_RDWR | O_CLOEXEC);

	(void)state;
	un_helper_stop(h);
	done = 0;
	un_transport_use_device(fd);
	un_helper_defer(h, job, NULL);
	assert_int_equal(done, 1);
	assert_int_equal(un_device_of_thread(), fd);
	un_transport_use_device(-1);
	un_device_close(fd);
	assert_int_equal(fcntl(fd, F_GETFD), -1);
	un_helper_free(h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_job_has_no_device),
		cmocka_unit_test(without_a_thread),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
