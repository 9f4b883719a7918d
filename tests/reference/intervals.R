# Profile likelihood intervals of lme4, frozen: Rscript intervals.R > intervals.json
#
# `fine` is a profile of an ML fit at tight settings, in steps a quarter of the usual; `default` is confint() as users call
# it, on a REML fit, which interpolates between few points. The fine profile of Dyestuff2 breaks down at the boundary.

suppressMessages(library(lme4))
library(jsonlite)

cake$temp <- as.numeric(as.character(cake$temperature))
MODELS <- list(
  sleepstudy = list(Reaction ~ Days + (Days | Subject), sleepstudy),
  penicillin = list(diameter ~ 1 + (1 | plate) + (1 | sample), Penicillin),
  pastes = list(strength ~ 1 + (1 | batch / cask), Pastes),
  dyestuff = list(Yield ~ 1 + (1 | Batch), Dyestuff),
  dyestuff2 = list(Yield ~ 1 + (1 | Batch), Dyestuff2),
  cake = list(angle ~ recipe * temp + (1 | recipe:replicate), cake)
)

# lme4's "sd_Days|Subject" and "cor_Days.(Intercept)|Subject", as the package writes them
our_name <- function(name) {
  name <- sub("^sd_(.*)\\|(.*)$", "sd \\2[\\1]", name)
  name <- sub("^cor_(.*)\\.(.*)\\|(.*)$", "cor \\3[\\2,\\1]", name)
  name <- sub("^\\(Intercept\\)$", "Intercept", name)
  gsub("recipe([ABC])", "recipe[T.\\1]", name)
}

# names of the default table: profile() cannot be asked for them
table_of <- function(ci, names) {
  list(names = I(our_name(names)), lower = I(unname(ci[, 1])), upper = I(unname(ci[, 2])))
}

frozen <- function(name, model, level) {
  reml <- lmer(model[[1]], model[[2]])
  default <- confint(reml, method = "profile", oldNames = FALSE, quiet = TRUE, level = level)
  out <- list(model = name, level = level, default = table_of(default, rownames(default)))
  if (name == "dyestuff2") return(out)
  control <- lmerControl(optimizer = "bobyqa", optCtrl = list(rhoend = 1e-10, maxfun = 1e5))
  ml <- lmer(model[[1]], model[[2]], REML = FALSE, control = control)
  along <- profile(ml, delta.cutoff = 1 / 32, maxpts = 1000, devtol = 1e-7)
  out$fine <- table_of(confint(along, level = level), rownames(default))
  out
}

quiet <- function(x) suppressWarnings(suppressMessages(x))
fits <- lapply(names(MODELS), function(name) quiet(frozen(name, MODELS[[name]], 0.95)))
fits <- c(fits, list(quiet(frozen("sleepstudy", MODELS$sleepstudy, 0.8))))
versions <- list(R = paste(R.version$major, R.version$minor, sep = "."), lme4 = as.character(packageVersion("lme4")))
cat(toJSON(list(versions = versions, fits = fits), digits = I(12), auto_unbox = TRUE, na = "null"), "\n")
