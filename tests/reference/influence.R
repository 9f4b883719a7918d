# Influence, leverage, rePCA and R squared of lme4 fits: Rscript influence.R > influence.json
suppressMessages({library(lme4); library(jsonlite)})

tight <- lmerControl(optimizer = "bobyqa", optCtrl = list(rhobeg = 0.02, rhoend = 1e-11, maxfun = 1e5),
                     calc.derivs = FALSE, check.conv.singular = "ignore")
cake$temp <- as.numeric(as.character(cake$temperature))
frames <- list(sleepstudy = sleepstudy, cake = cake)

# with the values of the arguments in the call, which influence() evaluates again
fit <- function(formula, data, reml)
  do.call(lmer, list(as.formula(formula), data = data, REML = reml, control = tight))

# The object of influence(), with fits that converged further than its own do
influence_of <- function(model, data, groups, reml) {
  if (groups == "case") data$case <- seq_len(nrow(data))
  labels <- as.character(unique(data[[groups]]))
  own <- if (groups == "case") influence(model, data = data) else influence(model, groups = groups, data = data)
  parts <- lapply(labels, function(l) fit(formula(model), data[as.character(data[[groups]]) != l, ], reml))
  fixed <- t(vapply(parts, fixef, fixef(model)))
  rownames(fixed) <- labels
  moved <- max(abs(own[[2]] - fixed) / matrix(sqrt(diag(vcov(model))), nrow(fixed), ncol(fixed), byrow = TRUE))
  own[[2]] <- fixed
  own[[6]] <- setNames(lapply(parts, function(m) as.matrix(vcov(m))), labels)
  V0 <- as.matrix(vcov(model))
  list(groups = groups, labels = labels, default_moves_by = moved,
       dfbeta = unname(dfbeta(own)), dfbetas = unname(dfbetas(own)), cooks = unname(cooks.distance(own)),
       covratio = vapply(own[[6]], function(V) det(V) / det(V0), 0),
       covtrace = vapply(own[[6]], function(V) sum(diag(solve(V0, V))) - ncol(V0), 0),
       residual = vapply(parts, function(m) sigma(m)^2, 0))
}

# Nakagawa & Schielzeth (2013), Johnson (2014), from the parts of the fit
r_squared <- function(model) {
  fixed <- var(as.vector(getME(model, "X") %*% fixef(model)))
  random <- sum(diag(as.matrix(sigma(model)^2 * crossprod(getME(model, "Lambdat") %*% getME(model, "Zt"))))) / nobs(model)
  total <- fixed + random + sigma(model)^2
  list(marginal = fixed / total, conditional = (fixed + random) / total, icc = random / (random + sigma(model)^2))
}

case <- function(name, formula, data, reml, groups = character(0)) {
  model <- fit(formula, frames[[data]], reml)
  list(name = name, formula = formula, data = data, method = if (reml) "reml" else "ml", fixef = names(fixef(model)),
       hat = unname(hatvalues(model)), r2 = r_squared(model),
       repca = lapply(rePCA(model), function(p) list(sdev = p$sdev, rotation = unname(as.matrix(p$rotation)))),
       influence = lapply(groups, function(g) influence_of(model, frames[[data]], g, reml)))
}

out <- list(
  versions = list(R = as.character(getRversion()), lme4 = as.character(packageVersion("lme4"))),
  fits = list(
    case("slope", "Reaction ~ Days + (Days | Subject)", "sleepstudy", TRUE, c("Subject", "case")),
    case("independent", "Reaction ~ Days + (Days || Subject)", "sleepstudy", TRUE),
    case("cake", "angle ~ recipe + temp + (1 | recipe:replicate)", "cake", FALSE, "replicate"),
    case("three effects", "angle ~ recipe + temp + (recipe | replicate)", "cake", TRUE)))
cat(toJSON(out, digits = NA, auto_unbox = TRUE, matrix = "rowmajor"), "\n")
