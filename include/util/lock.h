/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Locks that clang's thread safety analysis understands (contrib/check builds with it); plain pthread locks
 * otherwise.
 *
 * No released compiler lets a field of a C struct name the lock beside it. So a lock is two things to the
 * analysis: itself, which functions ask for (UN_REQUIRES), and a role that stands for the lock of any object
 * of its kind, which fields ask for (UN_GUARDED_BY). UN_LOCKS makes the calls that take both.
 */
#pragma once

#include <pthread.h>
#include <time.h>

#if defined(__clang__)
#define UN_TSA(x) __attribute__((x))
#else
#define UN_TSA(x)
#endif
#define UN_REQUIRES(...) UN_TSA(requires_capability(__VA_ARGS__))
#define UN_REQUIRES_SHARED(...) UN_TSA(requires_shared_capability(__VA_ARGS__))
#define UN_ACQUIRES(...) UN_TSA(acquire_capability(__VA_ARGS__))
#define UN_ACQUIRES_SHARED(...) UN_TSA(acquire_shared_capability(__VA_ARGS__))
/* If it returns @ok. */
#define UN_TRIES(ok, ...) UN_TSA(try_acquire_capability(ok, __VA_ARGS__))
#define UN_TRIES_SHARED(ok, ...) UN_TSA(try_acquire_shared_capability(ok, __VA_ARGS__))
#define UN_RELEASES(...) UN_TSA(release_capability(__VA_ARGS__))
/* However it was taken. */
#define UN_RELEASES_ANY(...) UN_TSA(release_generic_capability(__VA_ARGS__))
/* Held afterwards, as far as the analysis is concerned: for what nobody else can reach (yet, or any more). */
#define UN_ASSERTS(...) UN_TSA(assert_capability(__VA_ARGS__))
#define UN_GUARDED_BY(role) UN_TSA(guarded_by(role))
/* Say why. */
#define UN_NO_TSA UN_TSA(no_thread_safety_analysis)

struct UN_TSA(capability("role")) un_role {
	char unused;
};
/* Roles are never defined: they are names only. */
#define UN_ROLE(name) extern struct un_role name

struct UN_TSA(capability("mutex")) un_mutex {
	pthread_mutex_t m;
};

static inline void un_mutex_init(struct un_mutex *l)
{
	pthread_mutex_init(&l->m, NULL);
}

static inline void un_mutex_done(struct un_mutex *l)
{
	pthread_mutex_destroy(&l->m);
}

static inline void un_mutex_lock(struct un_mutex *l) UN_ACQUIRES(l) UN_NO_TSA
{
	pthread_mutex_lock(&l->m);
}

static inline void un_mutex_unlock(struct un_mutex *l) UN_RELEASES(l) UN_NO_TSA
{
	pthread_mutex_unlock(&l->m);
}

/* @l is released while it waits, and held again afterwards. */
static inline void un_cond_wait(pthread_cond_t *c, struct un_mutex *l) UN_REQUIRES(l)
{
	pthread_cond_wait(c, &l->m);
}

/* Its waits may have a time limit. */
static inline void un_cond_init(pthread_cond_t *c)
{
	pthread_condattr_t attr;

	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(c, &attr);
	pthread_condattr_destroy(&attr);
}

/* The same for @ms milliseconds at most; @c is made by un_cond_init(). */
static inline void un_cond_wait_ms(pthread_cond_t *c, struct un_mutex *l, unsigned ms)
	UN_REQUIRES(l)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	t.tv_sec += ms / 1000;
	t.tv_nsec += (long)(ms % 1000) * 1000000;
	if (t.tv_nsec >= 1000000000) {
		t.tv_sec++;
		t.tv_nsec -= 1000000000;
	}
	(void)pthread_cond_timedwait(c, &l->m, &t);
}

/* PREFIX_lock(x), PREFIX_unlock(x) and PREFIX_is_ours(x) for the lock MEMBER of a struct of type T. */
#define UN_LOCKS(T, MEMBER, PREFIX, ROLE)                                                          \
	static inline void PREFIX##_lock(T *x) UN_ACQUIRES(x->MEMBER, ROLE) UN_NO_TSA              \
	{                                                                                          \
		un_mutex_lock(&x->MEMBER);                                                         \
	}                                                                                          \
	static inline void PREFIX##_unlock(T *x) UN_RELEASES(x->MEMBER, ROLE) UN_NO_TSA            \
	{                                                                                          \
		un_mutex_unlock(&x->MEMBER);                                                       \
	}                                                                                          \
	/* Nobody else can reach @x: it is being made, or freed. */                                \
	__attribute__((unused)) static inline void PREFIX##_is_ours(T *x) UN_ASSERTS(x->MEMBER, ROLE)                      \
	{                                                                                          \
		(void)x;                                                                           \
	}                                                                                          \
	_Static_assert(sizeof(T) > 0, "")
