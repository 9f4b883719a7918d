# Residuals over a row-by-column grid with empty plots: REML by dense algebra and nlminb, and nlme where it can.
# Rscript trials.R > trials.json
suppressPackageStartupMessages({library(nlme); library(jsonlite)})
data(Wheat2, package = "nlme")
trial <- data.frame(row = as.integer(round(Wheat2$latitude / 4.3)), col = as.integer(round(Wheat2$longitude / 1.2)),
                    gen = as.character(Wheat2$variety), yield = Wheat2$yield)
stopifnot(!anyDuplicated(trial[c("row", "col")]))

ar1 <- function(rho, at) rho^abs(outer(at, at, "-"))
# -2 REML log-likelihood, all constants included, of V with the columns of X
criterion <- function(V, X, y) {
  U <- chol(V); W <- backsolve(U, X, transpose = TRUE); z <- backsolve(U, y, transpose = TRUE)
  fit <- qr(W); e <- qr.resid(fit, z); Rx <- qr.R(fit)
  2 * sum(log(diag(U))) + 2 * sum(log(abs(diag(Rx)))) + sum(e^2) + (length(y) - ncol(X)) * log(2 * pi)
}
reml <- function(build, start, lower, upper, X, y) {
  f <- function(p) tryCatch(criterion(build(p), X, y), error = function(e) 1e10)
  best <- nlminb(start, f, lower = lower, upper = upper, control = list(rel.tol = 1e-14, x.tol = 1e-10, eval.max = 2000,
                 iter.max = 1000))
  best <- nlminb(best$par, f, lower = lower, upper = upper, control = list(rel.tol = 1e-15, x.tol = 1e-12))
  V <- build(best$par); A <- solve(V, X); C <- solve(t(X) %*% A)
  list(theta = best$par, llf = -best$objective / 2, beta = as.vector(C %*% (t(A) %*% y)), se = sqrt(diag(C)))
}
X <- model.matrix(~ gen, trial); y <- trial$yield; n <- length(y)
separable <- function(p) p[1] * ar1(p[2], trial$row) * ar1(p[3], trial$col)
fits <- list(
  product = reml(separable, c(40, 0.4, 0.6), c(1e-3, -0.99, -0.99), c(Inf, 0.999, 0.999), X, y),
  nugget = reml(function(p) separable(p[1:3]) + p[4] * diag(n), c(40, 0.4, 0.6, 5), c(1e-3, -0.99, -0.99, 0),
                c(Inf, 0.9999, 0.9999, Inf), X, y),
  rows = reml(function(p) p[1] * ar1(p[2], trial$row) * outer(trial$col, trial$col, "=="), c(40, 0.4), c(1e-3, -0.99),
              c(Inf, 0.999), X, y),
  genotypes = reml(function(p) separable(p[1:3]) + p[4] * outer(trial$gen, trial$gen, "=="), c(40, 0.4, 0.6, 5),
                   c(1e-3, -0.99, -0.99, 0), c(Inf, 0.9999, 0.9999, Inf), matrix(1, n, 1), y))
# exp(-(|rows| + |cols|) / range) is a product of two ar1 with one correlation
equal <- gls(yield ~ gen, trial, correlation = corExp(form = ~ row + col, metric = "manhattan"), method = "REML")
range <- as.numeric(coef(equal$modelStruct$corStruct, unconstrained = FALSE))
manhattan <- list(llf = as.numeric(logLik(equal)), variance = equal$sigma^2, rho = exp(-1 / range),
                  beta = as.vector(coef(equal)), se = sqrt(diag(vcov(equal))))
# times with a gap that no subject fills: 1, 2, 4, 5, 8
set.seed(11)
series <- expand.grid(time = c(1L, 2L, 4L, 5L, 8L), subject = 1:12)
L <- t(chol(ar1(0.7, c(1, 2, 4, 5, 8))))
series$y <- round(as.vector(L %*% matrix(rnorm(60), 5)) + 3 + 0.2 * series$time, 4)
series <- series[-c(3, 17, 40), ]
gap <- gls(y ~ time, series, correlation = corAR1(form = ~ time | subject), method = "REML")
gaps <- list(data = series[c("time", "subject", "y")], llf = as.numeric(logLik(gap)), variance = gap$sigma^2,
             rho = as.numeric(coef(gap$modelStruct$corStruct, unconstrained = FALSE)), beta = as.vector(coef(gap)))
write(toJSON(list(versions = list(R = paste(R.version$major, R.version$minor, sep = "."),
                                  nlme = as.character(packageVersion("nlme"))),
                  trial = trial, fits = fits, manhattan = manhattan, gaps = gaps), digits = 12, auto_unbox = TRUE,
             dataframe = "columns"), stdout())
