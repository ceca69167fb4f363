"""Coordinate descent on a surrogate (draft)."""

from __future__ import annotations

import math
from collections.abc import Collection
from collections.abc import Generator
from dataclasses import dataclass

import numpy as np
from scipy.special import log_ndtr
from scipy.special import ndtr

from cbal_optuna.search.descent import DescentOptions
from cbal_optuna.search.descent import History
from cbal_optuna.search.descent import _random_point
from cbal_optuna.search.descent import _try_levels
from cbal_optuna.search.space import Point
from cbal_optuna.search.space import Space
from cbal_optuna.search.surrogate import Array
from cbal_optuna.search.surrogate import Surrogate

CFG = dict(
    expand=1.8, n_draws=8, space_from=0, handicap=0.0, acq="ei", max_points=100, warp=True,
    n_space=400, n_near=300, dirs=True, cycle=True, floor=1e-6, mode="eq", polish=(0.08, 0.03, 0.01),
)


def next_point_model(history, pending, space, options):
    taken = set(history.points) | set(pending)
    if CFG["cycle"]:
        cycle = first_cycle(space, options)
        request = next(cycle)
        guess = history.lowest
        try:
            while True:
                if request in history:
                    request = cycle.send(history.value(request))
                elif request in pending:
                    request = cycle.send(guess)
                else:
                    return request
        except StopIteration:
            pass
    return propose(history, pending, space, options)


def first_cycle(space, options):
    rng = np.random.default_rng([options.seed, 1])
    point = options.start
    value = yield point
    for j in options.order:
        axis = space.axes[j]
        if axis.nominal:
            point, value = yield from _try_levels(space, j, point, value, rng)
            continue
        side = 1.0 if point[j] <= 0.5 else -1.0
        step = options.initial_step
        moved = axis.move(point[j], side * step)
        cand = (*point[:j], moved, *point[j + 1 :])
        v = yield cand
        if v > value:
            point, value = cand, v
            if CFG["expand"]:
                cand = (*point[:j], axis.move(moved, side * (CFG["expand"] - 1) * step), *point[j + 1 :])
                if cand != point:
                    v = yield cand
                    if v > value:
                        point, value = cand, v


def warp(values: Array) -> Array:
    finite = np.isfinite(values)
    low, high = values[finite].min(), values[finite].max()
    gaps = high - np.clip(values, low, high)
    if CFG["warp"] and (gaps > 0).any():
        y = -np.log1p(gaps / np.median(gaps[gaps > 0]))
    else:
        y = -gaps
    sd = y.std()
    return (y - y.mean()) / (sd if sd > 0 else 1.0)


def fit(history, space, options, rng):
    points = history.points
    X = np.array(points)
    y = np.array([history.value(p) for p in points])
    m = CFG["max_points"]
    if len(y) > m:
        keep = set(np.argsort(-y, kind="stable")[: m // 2].tolist())
        for i in np.argsort(((X - X[np.argmax(y)]) ** 2).sum(1), kind="stable"):
            if len(keep) >= m:
                break
            keep.add(int(i))
        k = sorted(keep)
        X, y = X[k], y[k]
    n = CFG["n_draws"]
    return X, y, Surrogate(space, X, warp(y), np.ones(len(y)), rng, n)


def logei(z):
    small = np.minimum(z, -5.0)
    tail = -0.5 * small * small - 0.919 - 2 * np.log(-small)
    big = np.maximum(z, -5.0)
    return np.where(z > -5, np.log(np.maximum(np.exp(-0.5 * big * big) / math.sqrt(2 * math.pi) + big * ndtr(big), 1e-300)), tail)


def propose(history, pending, space, options):
    rng = np.random.default_rng([options.seed, len(history), len(pending), 7])
    X, y, s = fit(history, space, options, rng)
    d = X.shape[1]
    if pending:
        s.believe(np.array(sorted(pending)))
    A = np.array(history.points + sorted(pending))
    M = np.vstack([X, np.array(sorted(pending))]) if pending else X
    means, var0 = s.predict(M)
    best = means.max(axis=1)
    inc = M[np.argmax(means.mean(axis=0))]
    noise = np.array([dr.noise for dr in s.draws])

    def score(Z):
        m, v = s.predict(Z)
        sd = np.sqrt(v)
        e = logei((m - best[:, None]) / sd) + np.log(sd)
        if CFG["acq"] == "aei":
            e = e + np.log(np.maximum(1 - np.sqrt(noise)[:, None] / np.sqrt(v + noise[:, None]), 1e-12))
        e = np.logaddexp.reduce(e, axis=0)
        dd = np.abs(Z[:, None] - A[None]).max(-1).min(1)
        return np.where(dd < CFG["floor"], -np.inf, e)

    numeric = ~np.array([a.nominal for a in space.axes])
    lines = []
    for j in range(d):
        a = space.axes[j]
        if a.n_levels is not None and a.n_levels < 100:
            g = np.array(list(a.levels()))
        else:
            g = np.r_[np.linspace(0, 1, 41), np.clip(inc[j] + np.linspace(-0.06, 0.06, 13), 0, 1)]
        Z = np.repeat(inc[None], len(g), 0)
        Z[:, j] = g
        lines.append(Z)
    if CFG["dirs"]:
        top = M[np.argsort(-means.mean(0), kind="stable")[1 : max(d + 1, 4)]]
        dirs = [np.where(numeric, t - inc, 0) for t in top]
        for i in np.flatnonzero(numeric):
            for k in np.flatnonzero(numeric):
                if k < i:
                    for sg in (1, -1):
                        v = np.zeros(d)
                        v[i], v[k] = 1, sg
                        dirs.append(v)
        for v in dirs:
            n = np.linalg.norm(v)
            if n < 1e-9:
                continue
            t = np.r_[np.linspace(-1, 1, 41), np.linspace(-0.1, 0.1, 21)]
            Z = inc + t[:, None] * v / n
            lines.append(Z[((Z >= 0) & (Z <= 1)).all(1)])
    Zl = np.vstack(lines)
    nl = len(Zl)
    parts = [Zl]
    use_space = len(history) >= CFG["space_from"] * d
    if use_space:
        parts.append(rng.random((CFG["n_space"], d)))
        for sc in (0.15, 0.04):
            parts.append(np.where(numeric, np.clip(inc + rng.normal(size=(CFG["n_near"], d)) * sc, 0, 1), inc))
    Z = snap(np.vstack(parts), space)
    e = score(Z)
    e[nl:] -= CFG["handicap"]
    u, eb = Z[np.argmax(e)], e.max()
    if use_space:
        for sc in CFG["polish"]:
            Q = snap(np.where(numeric, np.clip(u + rng.normal(size=(100, d)) * sc, 0, 1), u), space)
            q = score(Q) - CFG["handicap"]
            if q.max() > eb:
                u, eb = Q[np.argmax(q)], q.max()
    if not np.isfinite(eb):
        return _random_point(space, rng)
    return space.snap(u)


def snap(Z, space):
    Z = Z.copy()
    for j, a in enumerate(space.axes):
        n = a.n_levels
        if n is not None and n < 2000:
            lv = np.array(list(a.levels()))
            Z[:, j] = lv[np.abs(Z[:, j][:, None] - lv).argmin(1)]
    return Z


def recommend(history, space, options):
    rng = np.random.default_rng([options.seed, len(history), 9])
    X, y, s = fit(history, space, options, rng)
    m, _ = s.predict(X)
    return tuple(X[np.argmax(m.mean(0))])
