"""Kenward and Roger's adjusted covariance matrix by dense algebra, V differentiated numerically."""

import numpy as np

import mixedgen as mg


def dense_kenward_roger(fit: mg.Fit) -> np.ndarray:
    """Adjusted covariance matrix of the fixed effects by the formulae of 1997, V differentiated numerically."""
    fitted = fit.fitted
    design, theta = fitted.design, fitted.theta
    n, X = design.n, np.asarray(design.fixed.X)
    zero = np.zeros(len(theta))

    def V(t: np.ndarray) -> np.ndarray:
        total = design.residual.multiply(t[design.slices[-1]], np.eye(n))
        for term, s in zip(design.terms, design.slices, strict=False):
            Z = term.Z.toarray()
            K = np.eye(term.q) if term.relationship is None else term.relationship.multiply(np.eye(term.q))
            total = total + Z @ np.kron(term.structure.matrix(t[s]), K) @ Z.T
        return total

    def moved(*places: int) -> np.ndarray:
        step = zero.copy()
        for j in places:
            step[j] += 1e-4 * max(abs(theta[j]), 0.1)
        return step

    size = [1e-4 * max(abs(t), 0.1) for t in theta]
    k = len(theta)
    first = [(V(theta + moved(i)) - V(theta - moved(i))) / (2 * size[i]) for i in range(k)]
    second = [
        [
            (
                V(theta + moved(i) + moved(j))
                - V(theta + moved(i) - moved(j))
                - V(theta - moved(i) + moved(j))
                + V(theta - moved(i) - moved(j))
            )
            / (4 * size[i] * size[j])
            for j in range(k)
        ]
        for i in range(k)
    ]
    Vi = np.linalg.inv(V(theta))
    Phi = np.linalg.inv(X.T @ Vi @ X)
    P = Vi - Vi @ X @ Phi @ X.T @ Vi
    W = np.linalg.inv([[0.5 * np.trace(P @ a @ P @ b) for b in first] for a in first])
    middle = np.zeros_like(Phi)
    for i in range(k):
        Pi = -X.T @ Vi @ first[i] @ Vi @ X
        for j in range(k):
            Pj = -X.T @ Vi @ first[j] @ Vi @ X
            Q = X.T @ Vi @ first[i] @ Vi @ first[j] @ Vi @ X
            R = X.T @ Vi @ second[i][j] @ Vi @ X
            middle += W[i, j] * (Q - Pi @ Phi @ Pj - 0.25 * R)
    return Phi + 2.0 * Phi @ middle @ Phi
