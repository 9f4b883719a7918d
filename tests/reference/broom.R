# Frozen frames of broom.mixed: tidy, glance and augment of lmerTest fits. Rscript broom.R > broom.json
#
# Each fit is polished as in inference.R, so that the figures are those of the optimum to more digits than are compared.

suppressPackageStartupMessages({
  library(lmerTest)
  library(broom.mixed)
  library(jsonlite)
})

DIGITS <- 12
EVERY <- 11 # rows of augment that are kept: the first, and each eleventh after it

sleepstudy$w <- 1 + sleepstudy$Days / 10
sleepstudy$off <- 5 * sqrt(sleepstudy$Days)
cake$temp <- as.numeric(as.character(cake$temperature))
DATA <- list(sleepstudy = sleepstudy, Penicillin = Penicillin, cake = cake)

# formula, data, REML, weights
MODELS <- list(
  sleepstudy = list("Reaction ~ Days + (Days|Subject)", "sleepstudy", TRUE),
  penicillin = list("diameter ~ 1 + (1|plate) + (1|sample)", "Penicillin", FALSE),
  cake = list("angle ~ recipe + temp + (0+recipe|replicate)", "cake", TRUE),
  weighted = list("Reaction ~ Days + offset(off) + (1|Subject)", "sleepstudy", TRUE, "w")
)

polished_theta <- function(arguments) {
  devfun <- do.call(mkLmerDevfun, c(do.call(lFormula, arguments), list(start = NULL, verbose = 0)))
  theta <- optimizeLmer(devfun, optimizer = "bobyqa", control = list(rhoend = 1e-9, maxfun = 1e5))$par
  for (step in 1:4) theta <- theta - solve(numDeriv::hessian(devfun, theta), numDeriv::grad(devfun, theta))
  theta
}

fit_model <- function(model) {
  arguments <- list(as.formula(model[[1]]), data = DATA[[model[[2]]]], REML = model[[3]])
  if (length(model) > 3) arguments$weights <- DATA[[model[[2]]]][[model[[4]]]]
  theta <- suppressMessages(polished_theta(arguments))
  control <- lmerControl(optimizer = NULL)
  do.call(lmerTest::lmer, c(arguments, list(start = list(theta = theta), control = control)))
}

columns <- function(frame) {
  lapply(as.list(as.data.frame(frame)), function(x) I(if (is.factor(x)) as.character(x) else unname(x)))
}

frozen <- function(name, model) {
  fit <- suppressMessages(fit_model(model))
  rows <- augment(fit)
  kept <- seq(1, nrow(rows), by = EVERY)
  list(
    model = name, formula = model[[1]], data = model[[2]], method = if (model[[3]]) "reml" else "ml",
    weights = if (length(model) > 3) model[[4]],
    default = columns(tidy(fit)),
    every = columns(tidy(fit, effects = c("fixed", "ran_pars", "ran_vals"), conf.int = TRUE)),
    ran_pars = columns(tidy(fit, effects = "ran_pars")),
    ran_vals = columns(tidy(fit, effects = "ran_vals", conf.int = TRUE, conf.level = 0.9)),
    fixed = columns(tidy(fit, effects = "fixed", conf.int = TRUE)),
    kenward_roger = if (model[[3]] && length(model) < 4) {
      columns(tidy(fit, effects = "fixed", conf.int = TRUE, ddf.method = "Kenward-Roger"))
    },
    glance = columns(glance(fit)),
    augment_names = I(names(rows)),
    augment = columns(rows[kept, grepl("^[.]", names(rows))])
  )
}

packages <- c("lme4", "lmerTest", "pbkrtest", "broom.mixed")
versions <- c(
  list(R = paste(R.version$major, R.version$minor, sep = ".")),
  sapply(packages, function(p) as.character(packageVersion(p)), simplify = FALSE)
)
fits <- lapply(names(MODELS), function(name) frozen(name, MODELS[[name]]))
out <- list(versions = versions, every = EVERY, fits = fits)
cat(toJSON(out, digits = I(DIGITS), auto_unbox = TRUE, null = "null", na = "null"), "\n")
